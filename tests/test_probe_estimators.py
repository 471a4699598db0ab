"""Estimators keep scikit-learn's contract and equal its own where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from probe.linear import ALPHAS, GramRidge, fit_ridge
from probe.neighbours import CosineNeighboursClassifier, CosineNeighboursRegressor, fit_neighbours

ESTIMATORS = [GramRidge(), CosineNeighboursRegressor(n_neighbors=1), CosineNeighboursClassifier(n_neighbors=1)]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_check_estimator(estimator: object) -> None:
    results = check_estimator(estimator, on_skip=None)
    assert sum(each["status"] == "passed" for each in results) > 30


def test_ridge_path_equals_scikit_learn_at_every_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.linear._BLOCK_ROWS", 64)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 40)) + 5
    y = X[:, 0] - 2 * X[:, 1] + rng.standard_normal(300)
    fresh = rng.standard_normal((50, 40)) + 5
    for alpha, ours in zip(ALPHAS, fit_ridge(X, y)):
        reference = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X, y)
        np.testing.assert_allclose(ours.predict(fresh), reference.predict(fresh), rtol=1e-5, atol=1e-5)


def test_ridge_leaves_out_constant_features() -> None:
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.standard_normal((100, 3)), np.full((100, 1), 7.0)], 1)
    fitted = GramRidge(alpha=1e-6).fit(X, X[:, 0] * 3 + 1)
    np.testing.assert_allclose(fitted.coef_, [3, 0, 0, 0], atol=1e-6)


def test_neighbours_equal_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    rng = np.random.default_rng(2)
    X, fresh = rng.standard_normal((200, 12)), rng.standard_normal((60, 12))
    centre = X.mean(0)
    y = rng.integers(0, 3, 200)
    for model in fit_neighbours(X, y.astype(float), task="regression"):
        brute = KNeighborsRegressor(model.n_neighbors, metric="cosine").fit(X - centre, y)
        np.testing.assert_allclose(model.predict(fresh), brute.predict(fresh - centre), atol=1e-12)
    for model in fit_neighbours(X, y, task="classification"):
        brute = KNeighborsClassifier(model.n_neighbors, metric="cosine").fit(X - centre, y)
        np.testing.assert_allclose(model.predict_proba(fresh), brute.predict_proba(fresh - centre), atol=1e-12)
