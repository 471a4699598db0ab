"""What classifiers fitted block by block share: their settings, their fit, and the path over penalties.

A fit minimises  mean of loss(Zw, e) + penalty / 2 |w|^2  over weights w and a few free numbers e, for standardised
features Z, by L-BFGS. Weights are sought in the coordinates in which the loss is round to second order (the
eigenvectors of the Gram matrix, each scaled by its curvature): correlated features then cost ten steps rather than
hundreds.

Shapes: N or M clips, B of a block, D features, K classes or scores of a row, E free numbers, R directions
(`RowStatistics`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy.optimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from echofm.estimators.rows import Rows, RowStatistics, row_statistics

Array = npt.NDArray[np.float64]
# (scores_BK, free_E, places of the block) -> (sum of losses, its gradient by score, its gradient by free number)
Loss = Callable[[Array, Array, slice], tuple[float, Array, Array]]
INVERSE_PENALTIES = tuple(float(c) for c in np.logspace(-4, 2, 7))
Classifier = TypeVar("Classifier", bound="PenalisedClassifier")


class PenalisedClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Minimises C sum of losses + |w|^2 / 2 over standardised features, which may be mapped from disk.

    balanced: every class counts alike, whatever its number of clips; else every clip does.
    """

    def __init__(self, C: float = 1.0, *, balanced: bool = True, tol: float = 1e-5, max_iter: int = 500) -> None:
        self.C = C
        self.balanced = balanced
        self.tol = tol
        self.max_iter = max_iter

    def fit(self: Classifier, X: npt.ArrayLike, y: npt.ArrayLike) -> Classifier:
        """Fit to (N, D) features and (N,) classes, two or more."""
        features_ND, classes_N = validate_data(self, X, y, dtype=(np.float64, np.float32), ensure_min_samples=2)
        check_classification_targets(classes_N)
        self.classes_, numbers_N = np.unique(classes_N, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs two classes; y holds 1 class, {self.classes_[0]!r}")
        rows = Rows(features_ND=features_ND)
        self.solve(rows, row_statistics(rows), numbers_N, None)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """(N,) likeliest classes."""
        probability_NK = self.predict_proba(X)
        return self.classes_[probability_NK.argmax(1)]

    @abstractmethod
    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """(N, K) probabilities."""

    def solve(
        self, rows: Rows, stats: RowStatistics, numbers_M: npt.NDArray[np.int64], start: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        """Set what `fit` sets, for classes_ by number. Returns (weights, free numbers), where the next may start."""
        weight_M = class_weights(numbers_M, len(self.classes_)) if self.balanced else np.ones(len(numbers_M))
        loss, outputs, free_E, curvature = self._problem(numbers_M, weight_M)
        weights_DK, free_E, self.n_iter_ = minimise(
            rows,
            stats,
            loss,
            start=start or (np.zeros((rows.dim, outputs)), free_E),
            penalty=1 / (self.C * len(rows)),
            curvature=curvature,
            tolerance=self.tol,
            most_steps=self.max_iter,
        )
        self._keep(weights_DK / stats.scale_D[:, None], free_E, stats.mean_D)
        self.n_features_in_ = rows.dim
        return weights_DK, free_E

    @abstractmethod
    def _problem(self, numbers_M: npt.NDArray[np.int64], weight_M: Array) -> tuple[Loss, int, Array, float]:
        """The loss, scores of a row, free numbers to begin with, a typical curvature (see `minimise`)."""

    @abstractmethod
    def _keep(self, weights_DK: Array, free_E: Array, mean_D: Array) -> None:
        """Set the fitted weights, of features as they are."""


def penalty_path(
    kind: type[Classifier],
    rows: Rows,
    numbers_M: npt.NDArray[np.int64],
    *,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
) -> list[Classifier]:
    """One fit per penalty, each begun where the last, stronger one ended."""
    stats = row_statistics(rows)
    classes, numbers = np.unique(numbers_M, return_inverse=True)
    path, start = [], None
    for c in sorted(inverse_penalties):
        model = kind(C=c)
        model.classes_ = classes
        start = model.solve(rows, stats, numbers, start)
        path.append(model)
    return path


def class_weights(numbers_M: npt.NDArray[np.int64], classes: int) -> Array:
    """(M,) weights, mean 1, under which every class counts alike (scikit-learn's "balanced")."""
    counts_K = np.bincount(numbers_M, minlength=classes)
    return (len(numbers_M) / (classes * np.maximum(1, counts_K)))[numbers_M]


def minimise(
    rows: Rows,
    stats: RowStatistics,
    loss: Loss,
    *,
    start: tuple[Array, Array],
    penalty: float,
    curvature: float,
    tolerance: float,
    most_steps: int,
) -> tuple[Array, Array, int]:
    """(weights_DK of standardised features, free_E, steps taken).

    start: where to begin, in the same coordinates. penalty: on |w|^2 / 2, as a part of the mean loss. curvature: a
    typical second derivative of one row's loss by its score. tolerance: of the gradient in the round coordinates, and
    (squared) of the loss's relative fall.
    """
    basis = stats.vectors_DR * (curvature * stats.eigenvalues_R / len(rows) + penalty) ** -0.5
    inverse = stats.vectors_DR * (curvature * stats.eigenvalues_R / len(rows) + penalty) ** 0.5
    weights_DK, free_E = start
    # Weights outside the span of the rows cost penalty and change no score, so none are sought there.
    shape, narrow = (basis.shape[1], weights_DK.shape[1]), rows.features_ND.dtype == np.float32
    size = shape[0] * shape[1]
    kind: type[np.floating] = np.float32 if narrow else np.float64
    mean, factor = stats.mean_D.astype(kind), (1 / stats.scale_D).astype(kind)

    def value_and_gradient(place: Array) -> tuple[float, Array]:
        w = basis @ place[:size].reshape(shape)
        e = place[size:]
        total, slope_w, slope_e = 0.0, np.zeros(w.shape), np.zeros(len(e))
        narrowed = w.astype(kind)
        for part, block in rows.blocks():
            z = (block - mean) * factor
            found, by_score, by_free = loss((z @ narrowed).astype(np.float64), e, part)
            total += found
            slope_w += z.T @ by_score.astype(kind)
            slope_e += by_free
        slope_w = slope_w / len(rows) + penalty * w
        value = total / len(rows) + 0.5 * penalty * float((w * w).sum())
        return value, np.concatenate([(basis.T @ slope_w).ravel(), slope_e / len(rows)])

    first = np.concatenate([(inverse.T @ weights_DK).ravel(), free_E])
    found = scipy.optimize.minimize(
        value_and_gradient,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": most_steps, "maxcor": 20, "gtol": tolerance, "ftol": tolerance**2},
    )
    return basis @ found.x[:size].reshape(shape), found.x[size:], int(found.nit)
