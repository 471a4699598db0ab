"""Logistic regression over a path of penalties, block by block: never a second copy of the features.

Shapes: N or M clips, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.blocks import Moments, Rows, moments
from probe.descent import Array, Loss, minimise

INVERSE_PENALTIES = tuple(float(c) for c in np.logspace(-4, 2, 7))


class BlockLogistic(ClassifierMixin, BaseEstimator):
    """Binary or multinomial logistic regression on standardised features, C sum of losses + |w|^2 / 2.

    Equal to StandardScaler + scikit-learn's LogisticRegression, from features that may be mapped from disk.
    balanced: every class counts alike, whatever its number of clips; else every clip does.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        balanced: bool = True,
        tol: float = 1e-5,
        max_iter: int = 500,
    ) -> None:
        self.C = C
        self.balanced = balanced
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> BlockLogistic:
        """Fit to (N, D) features and (N,) classes, two or more."""
        features_ND, classes_N = validate_data(self, X, y, dtype=(np.float64, np.float32), ensure_min_samples=2)
        check_classification_targets(classes_N)
        self.classes_, numbers_N = np.unique(classes_N, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"BlockLogistic needs two classes to tell apart; y holds 1 class, {self.classes_[0]!r}")
        rows = Rows(features_ND=features_ND)
        self._solve(rows, moments(rows), numbers_N, None)
        return self

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

    def _solve(
        self, rows: Rows, stats: Moments, numbers_M: npt.NDArray[np.int64], start: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        classes = len(self.classes_)
        outputs = 1 if classes == 2 else classes
        weight_M = class_weights(numbers_M, classes) if self.balanced else np.ones(len(numbers_M))
        weights_DK, free, self.n_iter_ = minimise(
            rows,
            stats,
            _two_classes(numbers_M, weight_M) if classes == 2 else _many_classes(numbers_M, weight_M),
            start=start or (np.zeros((rows.dim, outputs)), np.zeros(outputs)),
            penalty=1 / (self.C * len(rows)),
            curvature=(1 - 1 / classes) / classes,
            tolerance=self.tol,
            most_steps=self.max_iter,
        )
        self.coef_ = (weights_DK / stats.scale_D[:, None]).T
        self.intercept_ = free - self.coef_ @ stats.mean_D
        self.n_features_in_ = rows.dim
        return weights_DK, free


def logistic_path(
    rows: Rows,
    numbers_M: npt.NDArray[np.int64],
    *,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    stats: Moments | None = None,
) -> list[BlockLogistic]:
    """One fit per penalty, each begun where the last, stronger one ended. stats: of these rows, where known already."""
    stats = stats or moments(rows)
    classes, numbers = np.unique(numbers_M, return_inverse=True)
    path, start = [], None
    for c in sorted(inverse_penalties):
        model = BlockLogistic(C=c)
        model.classes_ = classes
        start = model._solve(rows, stats, numbers, start)
        path.append(model)
    return path


def class_weights(numbers_M: npt.NDArray[np.int64], classes: int) -> Array:
    """(M,) weights, mean 1, under which every class counts alike (scikit-learn's "balanced")."""
    counts_K = np.bincount(numbers_M, minlength=classes)
    return (len(numbers_M) / (classes * np.maximum(1, counts_K)))[numbers_M]


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
