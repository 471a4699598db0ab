"""Logistic regression of classes and of ordered levels, block by block: no second copy of the features.

Shapes: N or M clips, D features, K classes or levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, softmax
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from echofm.estimators.penalised import Array, Loss, PenalisedClassifier


class BlockLogistic(PenalisedClassifier):
    """Binary or multinomial logistic regression on standardised features, C sum of losses + |w|^2 / 2.

    Equal to StandardScaler + scikit-learn's LogisticRegression.
    """

    def decision_function(self, X: npt.ArrayLike) -> Array:
        """(N,) log odds of the second of two classes, or (N, K) scores."""
        check_is_fitted(self)
        features_ND = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        scores_NK = features_ND @ self.coef_.T + self.intercept_
        return scores_NK[:, 0] if scores_NK.shape[1] == 1 else scores_NK

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """(N, K) probabilities."""
        scores = self.decision_function(X)
        return np.stack([expit(-scores), expit(scores)], 1) if scores.ndim == 1 else softmax(scores, 1)

    def _problem(self, numbers_M: npt.NDArray[np.int64], weight_M: Array) -> tuple[Loss, int, Array, float]:
        classes = len(self.classes_)
        outputs = 1 if classes == 2 else classes
        loss = (_two_classes if classes == 2 else _many_classes)(numbers_M, weight_M)
        return loss, outputs, np.zeros(outputs), (1 - 1 / classes) / classes

    def _keep(self, weights_DK: Array, free_E: Array, mean_D: Array) -> None:
        self.coef_ = weights_DK.T
        self.intercept_ = free_E - self.coef_ @ mean_D


def _two_classes(numbers_M: npt.NDArray[np.int64], weight_M: Array) -> Loss:
    sign_M = 2.0 * numbers_M - 1

    def loss(scores_B1: Array, free_1: Array, part: slice) -> tuple[float, Array, Array]:
        margin = sign_M[part] * (scores_B1[:, 0] + free_1[0])
        slope = -weight_M[part] * sign_M[part] * expit(-margin)
        return -float(weight_M[part] @ log_expit(margin)), slope[:, None], slope.sum(keepdims=True)

    return loss


def _many_classes(numbers_M: npt.NDArray[np.int64], weight_M: Array) -> Loss:
    def loss(scores_BK: Array, free_K: Array, part: slice) -> tuple[float, Array, Array]:
        scores = scores_BK + free_K
        scores -= scores.max(1, keepdims=True)
        place, own = np.arange(len(scores)), numbers_M[part]
        slope = np.exp(scores)
        whole = slope.sum(1)
        total = float(weight_M[part] @ (np.log(whole) - scores[place, own]))
        slope /= whole[:, None]
        slope[place, own] -= 1
        slope *= weight_M[part, None]
        return total, slope, slope.sum(0)

    return loss


class OrdinalLogistic(PenalisedClassifier):
    """The cumulative logit (proportional odds) model of McCullagh 1980: P(level <= k) = sigmoid(threshold_k - w.x).

    Thresholds rise with the levels, which are in the order of `np.unique`; C sum of losses + |w|^2 / 2.

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
