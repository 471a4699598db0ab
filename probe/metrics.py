"""What a probe's predictions are worth. scikit-learn's definitions (tests hold them equal), in a few array operations
each: the bootstrap evaluates them thousands of times, and scikit-learn's own checks would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.stats

Metric = Callable[[npt.NDArray, npt.NDArray], float]
# Which way is better decides on validation patients and in comparisons.
LOWER_IS_BETTER = frozenset(["mae", "rmse"])


def mae(true_N: npt.NDArray, said_N: npt.NDArray) -> float:
    """Mean absolute error."""
    return float(np.abs(true_N - said_N).mean())


def rmse(true_N: npt.NDArray, said_N: npt.NDArray) -> float:
    """Root mean square error."""
    return float(np.sqrt(((true_N - said_N) ** 2).mean()))


def r2(true_N: npt.NDArray, said_N: npt.NDArray) -> float:
    """Coefficient of determination; NaN where the true values do not vary."""
    total = ((true_N - true_N.mean()) ** 2).sum()
    return float(1 - ((true_N - said_N) ** 2).sum() / total) if total > 0 else float("nan")


def balanced_accuracy(true_N: npt.NDArray, said_NK: npt.NDArray) -> float:
    """Mean recall of the classes that occur."""
    counts_KK = _confusion(true_N, said_NK)
    of_class = counts_KK.sum(1)
    return float((np.diag(counts_KK) / np.maximum(1, of_class))[of_class > 0].mean())


def macro_f1(true_N: npt.NDArray, said_NK: npt.NDArray) -> float:
    """Mean F1 of the classes that occur."""
    counts_KK = _confusion(true_N, said_NK)
    of_class, said = counts_KK.sum(1), counts_KK.sum(0)
    return float((2 * np.diag(counts_KK) / np.maximum(1, of_class + said))[of_class > 0].mean())


def auroc(true_N: npt.NDArray, said_NK: npt.NDArray) -> float:
    """Area under the ROC curve, for more than two classes the mean of each against the rest.

    NaN where a class is missing, as it may be among redrawn patients; such draws are left out of an interval.
    """
    classes = said_NK.shape[1]
    of_class = np.bincount(true_N, minlength=classes)
    if (of_class == 0).any():
        return float("nan")
    chosen = [1] if classes == 2 else range(classes)
    areas = []
    for number in chosen:
        ranks = scipy.stats.rankdata(said_NK[:, number])
        count, rest = of_class[number], len(true_N) - of_class[number]
        areas.append((ranks[true_N == number].sum() - count * (count + 1) / 2) / (count * rest))
    return float(np.mean(areas))


# The first of each chooses the penalty on validation patients.
REGRESSION: dict[str, Metric] = {"mae": mae, "rmse": rmse, "r2": r2}
CLASSIFICATION: dict[str, Metric] = {"balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1, "auroc": auroc}


def better(metric: str, first: float, second: float) -> bool:
    """Whether the first value of this metric is better than the second."""
    return first < second if metric in LOWER_IS_BETTER else first > second


def _confusion(true_N: npt.NDArray, said_NK: npt.NDArray) -> npt.NDArray[np.int64]:
    classes = said_NK.shape[1]
    return np.bincount(true_N * classes + said_NK.argmax(1), minlength=classes**2).reshape(classes, classes)
