"""Metrics equal scikit-learn's on random data, ties and missing classes included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from probe import metrics


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 80), st.integers(0, 10_000))
def test_regression_metrics(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, said = rng.standard_normal(rows), rng.standard_normal(rows)
    assert metrics.mae(true, said) == pytest.approx(reference.mean_absolute_error(true, said))
    assert metrics.rmse(true, said) == pytest.approx(reference.root_mean_squared_error(true, said))
    assert metrics.r2(true, said) == pytest.approx(reference.r2_score(true, said))


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 80), st.integers(2, 5), st.integers(0, 10_000))
def test_classification_metrics(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    # Few levels, so that probabilities tie.
    said = rng.integers(1, 5, (rows, classes)).astype(float)
    said /= said.sum(1, keepdims=True)
    present, answer = np.unique(true), said.argmax(1)
    recall = reference.recall_score(true, answer, average="macro", labels=present, zero_division=0)
    f1 = reference.f1_score(true, answer, average="macro", labels=present, zero_division=0)
    assert metrics.balanced_accuracy(true, said) == pytest.approx(recall)
    assert metrics.macro_f1(true, said) == pytest.approx(f1)
    if len(present) < classes:
        assert np.isnan(metrics.auroc(true, said))
    elif classes == 2:
        assert metrics.auroc(true, said) == pytest.approx(reference.roc_auc_score(true, said[:, 1]))
    else:
        assert metrics.auroc(true, said) == pytest.approx(reference.roc_auc_score(true, said, multi_class="ovr"))


def test_r2_of_values_that_do_not_vary_is_unknown() -> None:
    assert np.isnan(metrics.r2(np.ones(5), np.arange(5.0)))
