"""Figures on another set that its own scale does not spoil: by rank, and recalibrated.

A probe tested on another hospital's clips may order hearts rightly and still be off by a shift or a scale. W draws,
N clips, K classes or levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from probe.labels.metrics import RECALIBRATED, Metric, cumulated, pearson
from probe.labels.target import ClipTask
from probe.protocol import Array, ratio

NOTE = (
    "tested on another set: spearman is of the ranks alone; recalibrated figures come after a straight line (of two "
    "classes: a threshold) fitted on that set itself, which flatters them a little"
)


@Metric
def spearman(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Correlation of ranks, of levels by their mean; NaN where either side does not vary."""
    if predicted_N.ndim == 2:
        predicted_N = predicted_N @ np.arange(predicted_N.shape[1])
    return _correlation(_ranks(true_N, weights_WN), _ranks(predicted_N, weights_WN), weights_WN)


@Metric
def mae_recalibrated(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Mean absolute error after the least-squares line from predicted to true."""
    total_W = weights_WN.sum(1)
    mean_true, mean_predicted = (ratio(weights_WN @ each, total_W)[:, None] for each in (true_N, predicted_N))
    true_WN, predicted_WN = true_N - mean_true, predicted_N - mean_predicted
    above, below = ((weights_WN * each).sum(1) for each in (true_WN * predicted_WN, predicted_WN**2))
    # A constant prediction has no slope; its line is the mean.
    slope_W = np.divide(above, below, out=np.zeros_like(above), where=below > 1e-12)
    return ratio((weights_WN * np.abs(true_WN - slope_W[:, None] * predicted_WN)).sum(1), total_W)


@Metric
def r2_recalibrated(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """R2 after that line: the squared correlation."""
    return pearson.redrawn(true_N, predicted_N, weights_WN) ** 2


@Metric
def balanced_accuracy_recalibrated(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Of two classes: balanced accuracy at the best threshold. Of more it is not defined."""
    if predicted_NK.shape[1] != 2:
        return np.full(len(weights_WN), np.nan)
    inside, outside = cumulated(true_N == 1, predicted_NK[:, 1], weights_WN)
    parts = (ratio(each, np.broadcast_to(each[:, -1:], each.shape).copy()) for each in (inside, outside))
    hit, false = parts
    return ((hit + 1 - false) / 2).max(1)


ELSEWHERE: dict[ClipTask, dict[str, Metric]] = {
    "regression": {
        "spearman": spearman,
        "mae" + RECALIBRATED: mae_recalibrated,
        "r2" + RECALIBRATED: r2_recalibrated,
    },
    "classification": {"balanced_accuracy" + RECALIBRATED: balanced_accuracy_recalibrated},
    "ordinal": {"spearman": spearman},
    "multilabel": {},
}


def _ranks(values_N: npt.NDArray, weights_WN: Array) -> Array:
    """(W, N) ranks of clips that count as often as their weight; equal ones share the middle rank."""
    number_N = np.unique(values_N, return_inverse=True)[1]
    order = np.argsort(number_N, kind="stable")
    starts = np.flatnonzero(np.diff(number_N[order], prepend=-1))
    weight_WG = np.add.reduceat(weights_WN[:, order], starts, axis=1)
    return (np.cumsum(weight_WG, 1) - weight_WG / 2)[:, number_N]


def _correlation(left_WN: Array, right_WN: Array, weights_WN: Array) -> Array:
    total_W1 = weights_WN.sum(1, keepdims=True)
    left_WN, right_WN = (each - (weights_WN * each).sum(1, keepdims=True) / total_W1 for each in (left_WN, right_WN))
    products = (left_WN * right_WN, left_WN**2, right_WN**2)
    both, left, right = ((weights_WN * each).sum(1) for each in products)
    return ratio(both, np.sqrt(np.where((left > 1e-9) & (right > 1e-9), left * right, 0.0)))
