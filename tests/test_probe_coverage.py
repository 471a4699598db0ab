"""Intervals of a probe's figures hold the true figure as often as they say, clips of one patient being alike."""

from __future__ import annotations

import numpy as np
import pytest

from probe.labels.answers import Truth
from probe.labels.metrics import balanced_accuracy, r2
from probe.protocol import Key, redraw

CLIPS = 3
METRICS = {"r2": r2, "balanced_accuracy": balanced_accuracy}


def drawn(metric: str, patients: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, predictions and patients; a patient's clips share the truth and much of the error."""
    rng = np.random.default_rng(seed)
    truth, own_error = rng.standard_normal((2, patients))
    error = np.repeat(own_error, CLIPS) * 0.5 + 0.5 * rng.standard_normal(patients * CLIPS)
    truth = np.repeat(truth, CLIPS)
    names = np.repeat(np.arange(patients), CLIPS).astype(str)
    if metric == "r2":
        return truth, truth + error, names
    predicted = truth + error
    return (truth > 0).astype(np.int64), np.stack([-predicted, predicted], 1), names


@pytest.mark.slow
@pytest.mark.parametrize("metric", sorted(METRICS))
def test_coverage_of_figures_on_clustered_clips(metric: str) -> None:
    truth, predicted, _ = drawn(metric, 400_000, seed=10**6)
    figure = METRICS[metric](truth, predicted)
    inside = []
    for seed in range(800):
        truth, predicted, names = drawn(metric, 150, seed=seed + 5000)
        whole = Truth(values_N=truth, patients_N=names, metrics={(metric, ""): METRICS[metric]})
        found = redraw(whole.figures(predicted[:, None]), draws=600, seed=seed)[Key(metric)].estimate
        inside.append(found.low <= figure <= found.high)
    assert 0.93 <= np.mean(inside) <= 0.97
