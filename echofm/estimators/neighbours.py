"""Nearest-neighbour probes on FAISS: no training at all, so nothing of the probe's own in the answer."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from echofm.nearest import nearest

NEIGHBOURS = (1, 3, 5, 10, 20, 50)


class _Neighbours(BaseEstimator):
    """Keeps the features, centred on their mean: a cosine to the origin would compare what all clips share."""

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def _keep(self, X: npt.ArrayLike, y: npt.ArrayLike, **checks: Any) -> npt.NDArray:
        features_ND, values_N = validate_data(self, X, y, dtype=(np.float64, np.float32), **checks)
        self._mean = np.asarray(features_ND).mean(0, dtype=np.float64).astype(features_ND.dtype)
        self._features = _with_direction(np.asarray(features_ND), self._mean)
        return np.asarray(values_N)

    def neighbours(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """(N, n_neighbors) training rows, the most similar first."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return nearest(
            _with_direction(np.asarray(X), self._mean), self._features, k=min(self.n_neighbors, len(self._features))
        ).index_QK


class CosineNeighboursRegressor(RegressorMixin, _Neighbours):
    """Mean value of the `n_neighbors` training clips of highest cosine similarity."""

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> CosineNeighboursRegressor:
        """Keep (N, D) features and (N,) values."""
        self._values = self._keep(X, y, y_numeric=True).astype(np.float64)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) predicted values."""
        found = self.neighbours(X)
        return mean_votes(self, found)


class CosineNeighboursClassifier(ClassifierMixin, _Neighbours):
    """Vote of the `n_neighbors` training clips of highest cosine similarity; a tie goes to the first class."""

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> CosineNeighboursClassifier:
        """Keep (N, D) features and (N,) classes."""
        y = self._keep(X, y)
        check_classification_targets(y)
        self.classes_, self._numbers = np.unique(y, return_inverse=True)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, K) parts of the votes."""
        found = self.neighbours(X)
        return mean_votes(self, found)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """(N,) classes."""
        votes = self.predict_proba(X)
        return self.classes_[votes.argmax(1)]


def fit_neighbours(X_ND: npt.NDArray, y_N: npt.NDArray, *, task: str, counts: Sequence[int] = NEIGHBOURS) -> list[Any]:
    """One estimator per number of neighbours that the training set offers; they share one copy of the features."""
    kind = CosineNeighboursRegressor if task == "regression" else CosineNeighboursClassifier
    offered = [count for count in counts if count <= len(X_ND)]
    first = kind(n_neighbors=offered[0]).fit(X_ND, y_N)
    models = [copy(first) for _ in offered]
    for model, count in zip(models, offered):
        model.n_neighbors = count
    return models


def mean_votes(model: Any, neighbours_NK: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What the training rows found say together: (N,) mean values, or (N, classes) parts of the votes."""
    if isinstance(model, CosineNeighboursRegressor):
        return model._values[neighbours_NK].mean(1)
    votes = model._numbers[neighbours_NK]
    return (votes[:, :, None] == np.arange(len(model.classes_))).mean(1)


def _with_direction(rows_ND: npt.NDArray, mean_D: npt.NDArray) -> npt.NDArray:
    """(N, D + 1) the rows less the mean, in one new array."""
    found = np.empty((len(rows_ND), rows_ND.shape[1] + 1), rows_ND.dtype)
    centred = np.subtract(rows_ND, mean_D, out=found[:, :-1])
    # A clip at the mean has no direction; a constant feature, the same for all, gives it one.
    length = np.sqrt(np.einsum("nd,nd->n", centred, centred)).mean()
    found[:, -1] = 1e-6 * length or 1.0
    return found
