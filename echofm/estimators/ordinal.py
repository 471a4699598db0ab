"""Ordered levels: the cumulative logit (proportional odds) model of McCullagh 1980, penalised, block by block.

P(level <= k) = sigmoid(threshold_k - w.x), thresholds rising. Shapes: N or M clips, D features, K levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from echofm.estimators.penalised import Array, Loss, PenalisedClassifier


class OrdinalLogistic(PenalisedClassifier):
    """One direction and rising thresholds for levels in the order of `np.unique`; C sum of losses + |w|^2 / 2.

    For two levels this is logistic regression. predict gives the likeliest level, as scikit-learn's contract asks;
    for a level with least absolute error take `median_level` of predict_proba.
    """

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Classes that lie in no order along one direction are not what this model is for.
        tags.classifier_tags.poor_score = True
        return tags

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """(N, K) probabilities."""
        check_is_fitted(self)
        features_ND = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        below = expit(self.thresholds_ - (features_ND @ self.coef_)[:, None])
        edges = np.concatenate([np.zeros((len(below), 1)), below, np.ones((len(below), 1))], 1)
        return np.diff(edges)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """(N,) likeliest levels."""
        probability_NK = self.predict_proba(X)
        return self.classes_[probability_NK.argmax(1)]

    def _problem(self, numbers_M: npt.NDArray[np.int64], weight_M: Array) -> tuple[Loss, int, Array, float]:
        first = _first_thresholds(numbers_M, weight_M, len(self.classes_))
        return _cumulative(numbers_M, weight_M), 1, first, 0.25

    def _keep(self, weights_DK: Array, free_E: Array, mean_D: Array) -> None:
        self.coef_ = weights_DK[:, 0]
        self.thresholds_ = _rising(free_E) + self.coef_ @ mean_D


def median_level(probability_NK: npt.NDArray) -> npt.NDArray[np.int64]:
    """(N,) lowest level at or below which half of the probability lies: the answer of least absolute error."""
    return (np.cumsum(probability_NK, 1)[:, :-1] < 0.5 - 1e-12).sum(1)


def _rising(free: Array) -> Array:
    """Thresholds from free numbers: the first, then logarithms of the steps between neighbours."""
    return free[0] + np.concatenate([[0.0], np.cumsum(np.exp(free[1:]))])


def _first_thresholds(numbers_M: npt.NDArray[np.int64], weight_M: Array, levels: int) -> Array:
    share = np.cumsum(np.bincount(numbers_M, weight_M, minlength=levels)) / weight_M.sum()
    odds = np.log(share[:-1] / (1 - share[:-1]))
    return np.concatenate([odds[:1], np.log(np.diff(odds))])


def _cumulative(numbers_M: npt.NDArray[np.int64], weight_M: Array) -> Loss:
    def loss(scores_B1: Array, free: Array, part: slice) -> tuple[float, Array, Array]:
        edges = np.concatenate([[-np.inf], _rising(free), [np.inf]])
        own, weight, score = numbers_M[part], weight_M[part], scores_B1[:, 0]
        high, low = edges[own + 1] - score, edges[own] - score
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)): no difference of near equals.
        width = edges[own + 1] - edges[own]
        total = log_expit(high) + log_expit(-low) + np.log1p(-np.exp(-width))
        with np.errstate(over="ignore"):
            shared = 1 / np.expm1(width)
        by_high, by_low = weight * (expit(-high) + shared), -weight * (expit(low) + shared)
        by_edge = np.bincount(own + 1, by_high, minlength=len(edges)) + np.bincount(own, by_low, minlength=len(edges))
        by_threshold = by_edge[1:-1]
        # A step moves all the thresholds above it.
        above = np.cumsum(by_threshold[::-1])[::-1]
        by_free = np.concatenate([above[:1], above[1:] * np.exp(free[1:])])
        return -float(weight @ total), (by_high + by_low)[:, None], -by_free

    return loss
