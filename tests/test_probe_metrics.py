"""Metrics equal scikit-learn's on random data, ties, weights and missing classes included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from echofm.estimators.logistic import median_level
from probe.labels import elsewhere, metrics
from probe.labels.answers import Truth
from probe.protocol import redraw

CASES = settings(max_examples=40, deadline=None)
Reference = Callable[[np.ndarray], float]


def same(metric: metrics.Metric, true: np.ndarray, guess: np.ndarray, weights: np.ndarray, expected: Reference) -> None:
    """One test set, and two that count its clips differently."""
    assert metric(true, guess) == pytest.approx(expected(np.ones(len(true))), nan_ok=True)
    redrawn = metric.redrawn(true, guess, weights)
    assert redrawn == pytest.approx([expected(row) for row in weights], nan_ok=True)


@CASES
@given(st.integers(3, 80), st.integers(0, 10_000))
def test_regression_metrics(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, guess = rng.standard_normal(rows) + 50, rng.standard_normal(rows) + 50
    weights = rng.integers(0, 4, (2, rows)) + 1.0
    theirs = reference
    same(metrics.mae, true, guess, weights, lambda w: theirs.mean_absolute_error(true, guess, sample_weight=w))
    same(
        metrics.rmse,
        true,
        guess,
        weights,
        lambda w: theirs.root_mean_squared_error(true, guess, sample_weight=w),
    )
    same(metrics.r2, true, guess, weights, lambda w: theirs.r2_score(true, guess, sample_weight=w))
    same(
        metrics.pearson,
        true,
        guess,
        weights,
        lambda w: np.corrcoef(np.repeat([true, guess], w.astype(int), 1))[0, 1],
    )


def random_classes(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities that tie often, weights."""
    rng = np.random.default_rng(seed)
    guess = rng.integers(1, 5, (rows, classes)).astype(float)
    return (
        rng.integers(0, classes, rows),
        guess / guess.sum(1, keepdims=True),
        rng.integers(0, 4, (2, rows)) + 1.0,
    )


@CASES
@given(st.integers(8, 60), st.integers(0, 10_000))
def test_figures_on_another_set_see_through_a_shift_and_a_scale(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, weights = rng.integers(30, 70, rows).astype(float), rng.integers(1, 3, (2, rows)).astype(float)
    guess = true + rng.normal(0, 5, rows)
    for number, weight in enumerate(weights):
        often = np.repeat(np.arange(rows), weight.astype(int))
        expected = scipy.stats.spearmanr(true[often], guess[often]).statistic
        assert elsewhere.spearman.redrawn(true, guess, weights)[number] == pytest.approx(expected)
        line = np.polyfit(guess[often], true[often], 1)
        error = np.abs(true[often] - np.polyval(line, guess[often])).mean()
        assert elsewhere.mae_recalibrated.redrawn(true, guess, weights)[number] == pytest.approx(error)
    for metric in (elsewhere.spearman, elsewhere.mae_recalibrated, elsewhere.r2_recalibrated):
        assert metric(true, 3 * guess + 100) == pytest.approx(metric(true, guess))
    classes = (true > true.min()).astype(int)
    if classes.min() == classes.max():
        return
    shifted = np.stack([1 - true / 1000, true / 1000], 1)
    assert elsewhere.balanced_accuracy_recalibrated(classes, shifted) == pytest.approx(1)


@CASES
@given(st.integers(8, 80), st.integers(2, 5), st.integers(0, 10_000))
def test_classification_metrics(rows: int, classes: int, seed: int) -> None:
    true, guess, weights = random_classes(rows, classes, seed)
    present, answer = np.unique(true), guess.argmax(1)
    macro = {"average": "macro", "labels": present, "zero_division": 0}

    def recall(w: np.ndarray) -> float:
        return reference.recall_score(true, answer, sample_weight=w, **macro)

    same(metrics.recall_of_those_there, true, guess, weights, recall)
    if len(present) < classes:
        assert np.isnan(metrics.balanced_accuracy(true, guess)) and np.isnan(metrics.macro_f1(true, guess))
        assert np.isnan(metrics.auroc(true, guess))
        assert np.isnan(metrics.average_precision(true, guess))
        return
    same(metrics.balanced_accuracy, true, guess, weights, recall)
    same(metrics.macro_f1, true, guess, weights, lambda w: reference.f1_score(true, answer, sample_weight=w, **macro))
    score = guess[:, 1] if classes == 2 else guess

    def area(w: np.ndarray) -> float:
        return reference.roc_auc_score(true, score, multi_class="ovr", sample_weight=w)

    def precision(w: np.ndarray) -> float:
        shown = true if classes == 2 else np.eye(classes)[true]
        return reference.average_precision_score(shown, score, sample_weight=w)

    same(metrics.auroc, true, guess, weights, area)
    same(metrics.average_precision, true, guess, weights, precision)


@CASES
@given(st.integers(8, 80), st.integers(3, 5), st.integers(0, 10_000))
def test_ordinal_metrics(rows: int, levels: int, seed: int) -> None:
    true, guess, weights = random_classes(rows, levels, seed)
    answer, every = median_level(guess), list(range(levels))

    def kappa(w: np.ndarray) -> float:
        return reference.cohen_kappa_score(true, answer, weights="quadratic", labels=every, sample_weight=w)

    same(metrics.kappa_quadratic, true, guess, weights, kappa)
    same(
        metrics.mae_levels,
        true,
        guess,
        weights,
        lambda w: reference.mean_absolute_error(true, answer, sample_weight=w),
    )


def test_average_precision_of_one_class_alone_is_no_figure() -> None:
    guess = np.random.default_rng(0).dirichlet(np.ones(2), 10)
    for true in (np.zeros(10, int), np.ones(10, int)):
        assert np.isnan(metrics.average_precision(true, guess)), "1 whatever was said tells nothing"
    # Of the last redrawn test set all are of the class.
    true = np.arange(10) % 2
    weights = np.stack([np.ones(10), true.astype(float)])
    assert np.isnan(metrics.average_precision.redrawn(true, guess, weights)).tolist() == [False, True]


def test_labels_count_where_they_are_known() -> None:
    rng = np.random.default_rng(0)
    true, guess = rng.integers(0, 2, (200, 3)).astype(float), rng.random((200, 3))
    true[rng.random((200, 3)) < 0.3] = np.nan
    areas = [
        reference.roc_auc_score(true[known, label], guess[known, label])
        for label in range(3)
        for known in [~np.isnan(true[:, label])]
    ]
    assert metrics.METRICS["multilabel"]["auroc"](true, guess) == pytest.approx(np.mean(areas))
    assert metrics.of_label(metrics.auroc, 2)(true, guess) == pytest.approx(areas[2])


def test_median_level_has_the_least_absolute_error() -> None:
    probability = np.random.default_rng(1).dirichlet(np.ones(5), 50)
    cost = probability @ np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_allclose(cost[np.arange(50), median_level(probability)], cost.min(1))


def test_what_is_not_defined_is_unknown_and_never_better() -> None:
    assert np.isnan(metrics.r2(np.ones(5), np.arange(5.0)))
    assert np.isnan(metrics.pearson(np.arange(5.0), np.ones(5)))
    assert metrics.better("r2", 0.1, float("nan"))
    assert not metrics.better("r2", float("nan"), 0.1)
    assert metrics.better("mae", 1.0, 2.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_redrawn_test_set_of_one_patient_has_no_r2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.uniform(15, 80, 5), 3)
    guess = truth + rng.standard_normal(15)
    of_one = 5 * np.repeat(np.eye(5), 3, 1)
    assert np.isnan(metrics.r2.redrawn(truth, guess, of_one)).all()
    assert np.isnan(metrics.pearson.redrawn(truth, guess, of_one)).all()
    assert np.isnan(metrics.pearson.redrawn(guess, truth, of_one)).all()
    of = {("r2", ""): metrics.r2, ("pearson", ""): metrics.pearson}
    whole = Truth(values_N=truth, patients_N=np.repeat([f"p{n}" for n in range(5)], 3), metrics=of)
    found = redraw(whole.figures(guess[:, None]), draws=2000, seed=seed)
    for each in found.values():
        # One draw in 625 holds one patient alone.
        assert np.isnan(each.values_J).any()
        assert -100 < np.nanmin(each.values_J) <= each.estimate.low < each.estimate.high <= 1


def test_a_narrow_label_varies_and_rounding_does_not() -> None:
    rng = np.random.default_rng(0)
    narrow = 1000 + 1e-6 * rng.standard_normal(50)
    assert metrics.r2(narrow, narrow) == 1
    assert np.isnan(metrics.r2(np.full(50, 0.1), narrow)) and np.isnan(metrics.pearson(narrow, np.full(50, 0.1)))
