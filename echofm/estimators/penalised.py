"""What classifiers fitted block by block share: their settings, their fit, and the path over penalties.

Shapes: N or M clips, D features, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from echofm.estimators.descent import Array
from echofm.estimators.rows import Rows, RowStatistics, row_statistics

INVERSE_PENALTIES = tuple(float(c) for c in np.logspace(-4, 2, 7))


Classifier = TypeVar("Classifier", bound="PenalisedClassifier")


class PenalisedClassifier(ClassifierMixin, BaseEstimator, ABC):
    """Minimises C sum of losses + |w|^2 / 2 over standardised features, which may be mapped from disk.

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

    @abstractmethod
    def solve(
        self, rows: Rows, stats: RowStatistics, numbers_M: npt.NDArray[np.int64], start: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        """Set what `fit` sets, for classes_ by number. Returns (weights, free numbers), where the next may start."""


def penalty_path(
    kind: type[Classifier],
    rows: Rows,
    numbers_M: npt.NDArray[np.int64],
    *,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    stats: RowStatistics | None = None,
) -> list[Classifier]:
    """One fit per penalty, each begun where the last, stronger one ended. stats: of these rows, where known already."""
    stats = stats or row_statistics(rows)
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
