"""Linear probes: ridge regression over a whole path of penalties from one Gram matrix, and logistic regression.

Shapes: N clips, D features, K classes, A penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 6, 17))
INVERSE_PENALTIES = tuple(float(c) for c in np.logspace(-4, 2, 7))
# Features are read so many rows at a time: a million clips are never held a second time in double precision.
_BLOCK_ROWS = 8192


class GramRidge(RegressorMixin, BaseEstimator):
    """Ridge regression on standardised features, min |y - Xw - b|^2 + alpha |w|^2, from X'X and X'y.

    The Gram matrix is added up over blocks of rows, so that features may be mapped from disk; its eigenvectors give the
    weights for every penalty at once (`path`). Equal to StandardScaler + scikit-learn's Ridge.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> GramRidge:
        """Fit to (N, D) features and (N,) values."""
        features_ND, values_N = validate_data(
            self, X, y, y_numeric=True, dtype=(np.float64, np.float32), ensure_min_samples=2
        )
        self._decompose(np.asarray(features_ND), np.asarray(values_N, np.float64))
        self.coef_, self.intercept_ = self._weights(self.alpha)
        return self

    def path(self, alphas: Sequence[float]) -> list[GramRidge]:
        """Fitted copies of this estimator, one per penalty, without another look at the data."""
        check_is_fitted(self)
        copies = []
        for alpha in alphas:
            copy = GramRidge(alpha=alpha)
            copy.__dict__.update({**self.__dict__, "alpha": alpha})
            copy.coef_, copy.intercept_ = self._weights(alpha)
            copies.append(copy)
        return copies

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) predicted values."""
        check_is_fitted(self)
        features_ND = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return np.asarray(features_ND @ self.coef_ + self.intercept_, np.float64)

    def _decompose(self, X: npt.NDArray, y: npt.NDArray[np.float64]) -> None:
        rows, width = X.shape
        self._mean = X.mean(0, dtype=np.float64)
        gram, product, target = np.zeros((width, width)), np.zeros(width), y - y.mean()
        for first in range(0, rows, _BLOCK_ROWS):
            block = X[first : first + _BLOCK_ROWS].astype(np.float64) - self._mean
            gram += block.T @ block
            product += block.T @ target[first : first + _BLOCK_ROWS]
        scale = np.sqrt(np.diag(gram) / rows)
        # A feature that does not vary says nothing; any scale but zero leaves its weight at zero.
        self._scale = np.where(scale > 1e-12 * max(1.0, float(np.abs(self._mean).max())), scale, np.inf)
        self._y_mean = float(y.mean())
        self._values, self._vectors = np.linalg.eigh(gram / np.outer(self._scale, self._scale))
        self._rotated = self._vectors.T @ (product / self._scale)

    def _weights(self, alpha: float) -> tuple[npt.NDArray[np.float64], float]:
        scaled = self._vectors @ (self._rotated / (np.maximum(self._values, 0) + alpha))
        coef = scaled / self._scale
        return coef, self._y_mean - float(self._mean @ coef)


def logistic(inverse_penalty: float) -> Pipeline:
    """Multinomial logistic regression on standardised features, classes weighted to count alike."""
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=2000, tol=1e-5)
    )


def fit_ridge(X_ND: npt.NDArray, y_N: npt.NDArray, *, alphas: Sequence[float] = ALPHAS) -> list[GramRidge]:
    """One fitted ridge per penalty."""
    return GramRidge(alpha=alphas[0]).fit(X_ND, y_N).path(alphas)


def fit_logistic(
    X_ND: npt.NDArray, y_N: npt.NDArray, *, inverse_penalties: Sequence[float] = INVERSE_PENALTIES
) -> list[Any]:
    """One fitted pipeline per penalty."""
    return [logistic(c).fit(X_ND, y_N) for c in inverse_penalties]
