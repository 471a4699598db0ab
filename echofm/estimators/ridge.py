"""Ridge regression over a whole path of penalties from one Gram matrix.

Shapes: N clips, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from echofm.estimators.rows import Rows, RowStatistics, row_statistics

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 6, 17))


class GramRidge(RegressorMixin, BaseEstimator):
    """Ridge regression on standardised features, min |y - Xw - b|^2 + alpha |w|^2, from X'X and X'y.

    The Gram matrix is added up over blocks of rows, so that features may be mapped from disk; its eigenvectors give the
    weights for every penalty at once (`ridge_path`). Of fewer rows than features it is the rows' Gram matrix. Equal to
    StandardScaler + scikit-learn's Ridge.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> GramRidge:
        """Fit to (N, D) features and (N,) values."""
        features_ND, values_N = validate_data(
            self, X, y, y_numeric=True, dtype=(np.float64, np.float32), ensure_min_samples=2
        )
        values_N = np.asarray(values_N, np.float64)
        return self._solve(row_statistics(Rows(features_ND=features_ND), values_N), float(values_N.mean()))

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) predicted values."""
        check_is_fitted(self)
        features_ND = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return np.asarray(features_ND @ self.coef_ + self.intercept_, np.float64)

    def _solve(self, stats: RowStatistics, mean: float | npt.NDArray[np.float64]) -> GramRidge:
        rotated = ((stats.vectors_DR.T @ stats.product_D).T / (stats.eigenvalues_R + self.alpha)).T
        self.coef_ = ((stats.vectors_DR @ rotated).T / stats.scale_D).T
        self.intercept_ = mean - stats.mean_D @ self.coef_
        self.n_features_in_ = len(self.coef_)
        return self


def ridge_path(rows: Rows, values_M: npt.NDArray) -> list[GramRidge]:
    """One fitted ridge per penalty, from one look at the rows.

    values_M: or (M, K); then K numbers are predicted for every row.
    """
    values = np.asarray(values_M, np.float64)
    stats = row_statistics(rows, values)
    return [GramRidge(alpha=alpha)._solve(stats, values.mean(0)) for alpha in ALPHAS]
