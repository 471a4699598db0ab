"""What a probe's predictions are worth, for many redrawn test sets at once.

scikit-learn's definitions with `sample_weight` (tests hold them equal). Beside the figure of one test set every metric
gives those of W redrawn ones, from weights_WN that say how often each clip counts: sorting and comparing are then done
once, not for each of a thousand draws. A figure that is not defined is NaN.

Shapes: N clips, W draws, K classes or levels, L labels. Truth: (N,) numbers, (N,) class numbers, (N, L) of 0, 1 and NaN
(unknown). Predicted: (N,), (N, K) probabilities, (N, L) probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.estimators.logistic import median_level
from probe.protocol import Array, mean_of, mean_where, ratio

Weighted = Callable[[npt.NDArray, npt.NDArray, Array], Array]
# Which way is better decides on validation patients and in comparisons.
OVER_LABELS, RECALIBRATED = "_over_labels", "_recalibrated"
LOWER_IS_BETTER = frozenset(["mae", "rmse", "mae_levels"])
# Variance that is no more than rounding: as a part of the undrawn clips' variance, and of their mean square.
_OF_VARIANCE, _OF_SQUARE = 1e-12, 1e-28


@dataclass(frozen=True, eq=False)
class Metric:
    """metric(truth, predicted): the figure of one test set. redrawn(truth, predicted, weights_WN): (W,) figures."""

    redrawn: Weighted

    def __call__(self, true_N: npt.NDArray, predicted_N: npt.NDArray) -> float:
        return float(self.redrawn(true_N, predicted_N, np.ones((1, len(true_N))))[0])


@Metric
def mae(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Mean absolute error."""
    return _mean(np.abs(true_N - predicted_N), weights_WN)


@Metric
def rmse(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Root mean square error."""
    return np.sqrt(_mean((true_N - predicted_N) ** 2, weights_WN))


@Metric
def r2(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Coefficient of determination; NaN where the true values do not vary."""
    return 1 - ratio(_mean((true_N - predicted_N) ** 2, weights_WN), _variance(true_N, weights_WN))


@Metric
def pearson(true_N: npt.NDArray, predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    """Correlation; 0 by chance. NaN where either side does not vary."""
    spread = np.sqrt(_variance(true_N, weights_WN) * _variance(predicted_N, weights_WN))
    return ratio(_covariance(true_N, predicted_N, weights_WN), spread)


@Metric
def balanced_accuracy(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Mean recall of the classes; NaN where one is missing, as for `auroc`."""
    return _mean_recall(_confusion(true_N, predicted_NK.argmax(1), predicted_NK.shape[1], weights_WN))


@Metric
def recall_of_those_there(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Mean recall of the classes that occur: chooses where validation clips lack one, and is no figure."""
    return _mean_recall(_confusion(true_N, predicted_NK.argmax(1), predicted_NK.shape[1], weights_WN), lacking=True)


@Metric
def macro_f1(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Mean F1 of the classes; NaN where one is missing, as for `auroc`."""
    counts_WKK = _confusion(true_N, predicted_NK.argmax(1), predicted_NK.shape[1], weights_WN)
    of_class, predicted = counts_WKK.sum(2), counts_WKK.sum(1)
    right = np.diagonal(counts_WKK, axis1=1, axis2=2)
    f1_W = (2 * right / np.maximum(1e-12, of_class + predicted)).mean(1)
    return np.where((of_class > 0).all(1), f1_W, np.nan)


@Metric
def auroc(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Area under the ROC curve, for more than two classes the mean of each against the rest.

    NaN where a class is missing, as it may be among redrawn patients; such draws are left out of an interval.
    """
    return _over_classes(_area, true_N, predicted_NK, weights_WN)


@Metric
def average_precision(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Average precision of the second of two classes, for more the mean over classes; its chance is the prevalence.

    NaN where a class is missing, as for `auroc`: it is 1 then, whatever was predicted.
    """
    return _over_classes(_precision, true_N, predicted_NK, weights_WN)


@Metric
def kappa_quadratic(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Cohen's kappa, weighted by the squared distance of levels: 1 right, 0 chance. NaN where nothing varies."""
    levels = predicted_NK.shape[1]
    counts_WKK = _confusion(true_N, median_level(predicted_NK), levels, weights_WN)
    cost_KK = np.subtract.outer(np.arange(levels), np.arange(levels)) ** 2.0
    expected_WKK = counts_WKK.sum(2)[:, :, None] * counts_WKK.sum(1)[:, None] / counts_WKK.sum((1, 2))[:, None, None]
    return 1 - ratio((cost_KK * counts_WKK).sum((1, 2)), (cost_KK * expected_WKK).sum((1, 2)))


@Metric
def mae_levels(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Mean absolute error, in levels."""
    return _mean(np.abs(true_N - median_level(predicted_NK)).astype(np.float64), weights_WN)


@Metric
def balanced_accuracy_levels(true_N: npt.NDArray, predicted_NK: npt.NDArray, weights_WN: Array) -> Array:
    """Mean recall of the levels; NaN where one is missing, as for `auroc`."""
    return _mean_recall(_confusion(true_N, median_level(predicted_NK), predicted_NK.shape[1], weights_WN))


def of_label(metric: Metric, label: int) -> Metric:
    """A two-class metric of one of several labels, over the clips where it is known."""

    @Metric
    def found(true_NL: npt.NDArray, predicted_NL: npt.NDArray, weights_WN: Array) -> Array:
        known = np.flatnonzero(~np.isnan(true_NL[:, label]))
        predicted = predicted_NL[known, label]
        return metric.redrawn(
            true_NL[known, label].astype(np.int64), np.stack([1 - predicted, predicted], 1), weights_WN[:, known]
        )

    return found


def macro(metric: Metric) -> Metric:
    """The mean of a two-class metric over the labels for which it is defined."""

    @Metric
    def found(true_NL: npt.NDArray, predicted_NL: npt.NDArray, weights_WN: Array) -> Array:
        of_each = [
            of_label(metric, number).redrawn(true_NL, predicted_NL, weights_WN) for number in range(true_NL.shape[1])
        ]
        values_WL = np.stack(of_each, 1)
        return mean_where(values_WL, ~np.isnan(values_WL))

    return found


# By task; the first of each chooses the penalty on validation patients (`CHOOSING`).
METRICS: dict[str, dict[str, Metric]] = {
    "regression": {"mae": mae, "rmse": rmse, "r2": r2, "pearson": pearson},
    "classification": {
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": macro_f1,
        "auroc": auroc,
        "average_precision": average_precision,
    },
    "ordinal": {
        "kappa_quadratic": kappa_quadratic,
        "mae_levels": mae_levels,
        "balanced_accuracy": balanced_accuracy_levels,
    },
    "multilabel": {"auroc": macro(auroc), "average_precision": macro(average_precision)},
}

CHOOSING: dict[str, Metric] = {name: next(iter(found.values())) for name, found in METRICS.items()}
CHOOSING["classification"] = recall_of_those_there


def better(metric: str, first: float, second: float) -> bool:
    """Whether the first value of this metric is better than the second; a value that is not defined never is."""
    if np.isnan(second):
        return not np.isnan(first)
    return first < second if metric in LOWER_IS_BETTER else first > second


def _mean(values_N: npt.NDArray, weights_WN: Array) -> Array:
    return mean_of(values_N)(weights_WN)


def _covariance(left_N: npt.NDArray, right_N: npt.NDArray, weights_WN: Array) -> Array:
    # Centred once on the plain mean, so that the two products are no difference of large numbers.
    left, right = left_N - left_N.mean(), right_N - right_N.mean()
    return _mean(left * right, weights_WN) - _mean(left, weights_WN) * _mean(right, weights_WN)


def _variance(values_N: npt.NDArray, weights_WN: Array) -> Array:
    """0 where only rounding keeps it from 0, as in a redrawn test set of one patient with one label."""
    found = _covariance(values_N, values_N, weights_WN)
    rounding = _OF_VARIANCE * values_N.var() + _OF_SQUARE * np.mean(np.square(values_N))
    return np.where(found > rounding, found, 0.0)


def _mean_recall(counts_WKK: Array, *, lacking: bool = False) -> Array:
    """lacking: whether classes may be missing, and are then left out."""
    of_class = counts_WKK.sum(2)
    recall_WK = np.diagonal(counts_WKK, axis1=1, axis2=2) / np.maximum(1e-12, of_class)
    mean_W = mean_where(recall_WK, of_class > 0)
    return mean_W if lacking else np.where((of_class > 0).all(1), mean_W, np.nan)


def _confusion(true_N: npt.NDArray, answer_N: npt.NDArray, classes: int, weights_WN: Array) -> Array:
    """(W, true K, predicted K) weights."""
    cell_N = true_N * classes + answer_N
    order = np.argsort(cell_N, kind="stable")
    present, starts = np.unique(cell_N[order], return_index=True)
    counts = np.zeros((len(weights_WN), classes**2))
    if len(order):
        counts[:, present] = np.add.reduceat(weights_WN[:, order], starts, axis=1)
    return counts.reshape(-1, classes, classes)


def _over_classes(
    one_class: Callable[[npt.NDArray, npt.NDArray, Array], Array],
    true_N: npt.NDArray,
    predicted_NK: npt.NDArray,
    weights: Array,
) -> Array:
    classes = predicted_NK.shape[1]
    chosen = [1] if classes == 2 else range(classes)
    return np.mean([one_class(true_N == number, predicted_NK[:, number], weights) for number in chosen], axis=0)


def cumulated(is_class_N: npt.NDArray[np.bool_], predicted_N: npt.NDArray, weights_WN: Array) -> tuple[Array, Array]:
    """(W, G + 1) weight in the class and outside it among the clips of the g highest distinct values."""
    order = np.argsort(-predicted_N, kind="stable")
    fall = np.flatnonzero(np.diff(predicted_N[order]))
    ends = np.concatenate([[0], fall + 1, [len(order)]])
    sorted_WN, inside = weights_WN[:, order], is_class_N[order]

    def up_to(weights: Array) -> Array:
        whole = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, 1)], 1)
        return whole[:, ends]

    return up_to(sorted_WN * inside), up_to(sorted_WN * ~inside)


def _area(is_class_N: npt.NDArray[np.bool_], predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    inside, outside = cumulated(is_class_N, predicted_N, weights_WN)
    area = (np.diff(outside) * (inside[:, 1:] + inside[:, :-1]) / 2).sum(1)
    return ratio(area, inside[:, -1] * outside[:, -1])


def _precision(is_class_N: npt.NDArray[np.bool_], predicted_N: npt.NDArray, weights_WN: Array) -> Array:
    inside, outside = cumulated(is_class_N, predicted_N, weights_WN)
    precision = inside[:, 1:] / np.maximum(1e-12, inside[:, 1:] + outside[:, 1:])
    # Not defined without clips outside the class, however many are in it.
    return ratio((np.diff(inside) * precision).sum(1), np.where(outside[:, -1] > 0, inside[:, -1], 0.0))
