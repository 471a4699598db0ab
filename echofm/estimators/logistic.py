"""Logistic regression, block by block: no second copy of the features where clips outnumber them.

Shapes: N or M clips, D features, K classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, softmax
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

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """(N,) classes."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

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
