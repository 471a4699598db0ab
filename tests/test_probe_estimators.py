"""Estimators keep scikit-learn's contract and equal its own where it has them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from echofm.estimators.attentive import AttentiveClassifier, AttentiveRegressor
from echofm.estimators.logistic import BlockLogistic, OrdinalLogistic, _cumulative
from echofm.estimators.neighbours import CosineNeighboursClassifier, CosineNeighboursRegressor, fit_neighbours
from echofm.estimators.penalised import penalty_path
from echofm.estimators.ridge import ALPHAS, GramRidge, ridge_path
from echofm.estimators.rows import Rows, _of_many_rows, row_statistics

ESTIMATORS = [
    GramRidge(),
    BlockLogistic(),
    OrdinalLogistic(),
    CosineNeighboursRegressor(n_neighbors=1),
    CosineNeighboursClassifier(n_neighbors=1),
    # Few steps: the contract is checked on some fifty fits. What they learn is tested in test_probe_attentive.
    AttentiveRegressor(epochs=2, min_steps=50, lr=0.02),
    AttentiveClassifier(epochs=2, min_steps=50, lr=0.02),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_check_estimator(estimator: object) -> None:
    results = check_estimator(estimator, on_skip=None)
    assert sum(each["status"] == "passed" for each in results) > 30


def test_ridge_path_equals_scikit_learn_at_every_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echofm.estimators.rows._BLOCK_NUMBERS", 2560)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 40)) + 5
    y = X[:, 0] - 2 * X[:, 1] + rng.standard_normal(300)
    fresh = rng.standard_normal((50, 40)) + 5
    for alpha, ours in zip(ALPHAS, ridge_path(Rows(features_ND=X), y)):
        reference = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X, y)
        np.testing.assert_allclose(ours.predict(fresh), reference.predict(fresh), rtol=1e-5, atol=1e-5)


def wide(rows: int, width: int) -> np.ndarray:
    """Fewer clips than features, one of which does not vary."""
    X = np.random.default_rng(9).standard_normal((rows, width)).astype(np.float32) * np.logspace(0, -2, width) + 3
    X[:, 5] = 7
    return X.astype(np.float32)


def test_fewer_clips_than_features_are_solved_in_the_clips_own_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echofm.estimators.rows._BLOCK_NUMBERS", 7 * 400)
    X = wide(60, 400)
    y = X[:, :3].sum(1).astype(float) + np.random.default_rng(10).standard_normal(60)
    rows = Rows(features_ND=X, index_M=np.arange(40))
    assert row_statistics(rows).vectors_DR.shape == (400, 39)
    targets = np.stack([y, -y], 1)[:40]
    for alpha, both, ours in zip(ALPHAS, ridge_path(rows, targets), ridge_path(rows, y[:40])):
        theirs = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(X[:40].astype(float), y[:40])
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X.astype(float)), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(both.predict(X), np.stack([ours.predict(X), -ours.predict(X)], 1), atol=1e-8)


def test_both_gram_matrices_give_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    X = wide(60, 100)
    y, rows = X[:, 0].astype(float), Rows(features_ND=X)
    classes = np.digitize(y, np.quantile(y, [0.4, 0.7]))
    kinds = (BlockLogistic, OrdinalLogistic)
    dual = [ridge_path(rows, y), *(penalty_path(kind, rows, classes) for kind in kinds)]
    monkeypatch.setattr("echofm.estimators.rows._of_few_rows", _of_many_rows)
    primal = [ridge_path(rows, y), *(penalty_path(kind, rows, classes) for kind in kinds)]
    for one, other in zip(dual[0], primal[0]):
        np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-6, atol=1e-9)
    for one, other in zip(dual[1] + dual[2], primal[1] + primal[2]):
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=2e-3)


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


def correlated(rows: int, width: int, *, seed: int) -> np.ndarray:
    """Features as embeddings are: a few directions hold nearly all, and the mean is far from zero."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((width, width)) * np.logspace(0, -2, width)[:, None]
    return (rng.standard_normal((rows, width)) @ mix + 3).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("mapped", [False, True])
def test_logistic_path_equals_scikit_learn_at_every_penalty(
    classes: int, mapped: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("echofm.estimators.rows._BLOCK_NUMBERS", 64 * 30)
    X = correlated(500, 30, seed=classes)
    rng = np.random.default_rng(0)
    scores = (X - X.mean(0)) @ rng.standard_normal((30, classes))
    y = (scores / scores.std() * 2 + rng.gumbel(size=scores.shape)).argmax(1)
    train = np.sort(rng.permutation(500)[:300])
    np.save(tmp_path / "features.npy", X)
    features = np.load(tmp_path / "features.npy", mmap_mode="r") if mapped else X
    path = penalty_path(BlockLogistic, Rows(features_ND=features, index_M=train), y[train])
    assert len(path) == 7
    for ours in path:
        theirs = make_pipeline(
            StandardScaler(), LogisticRegression(C=ours.C, class_weight="balanced", tol=1e-7, max_iter=5000)
        ).fit(X[train].astype(float), y[train])
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X.astype(float)), atol=1e-3)


def test_ordinal_recovers_the_model_that_made_the_levels() -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((4000, 3)) * [1, 2, 0.5] + [0, 5, -1]
    true_coef, cuts = np.array([1.0, -0.5, 0.8]), np.array([-4.0, -2.5, 0.0])
    y = (X @ true_coef + rng.logistic(size=4000) > cuts[:, None]).sum(0)
    fitted = OrdinalLogistic(C=1e4, balanced=False).fit(X, y)
    np.testing.assert_allclose(fitted.coef_, true_coef, atol=0.12)
    np.testing.assert_allclose(fitted.thresholds_, cuts, atol=0.35)
    np.testing.assert_allclose(fitted.predict_proba(X).mean(0), np.bincount(y) / 4000, atol=0.01)


def test_ordinal_of_two_levels_is_logistic_regression() -> None:
    X = correlated(300, 8, seed=6).astype(float)
    y = (X[:, 0] > X[:, 0].mean()).astype(int)
    ours, logistic = OrdinalLogistic(C=0.1, tol=1e-8).fit(X, y), BlockLogistic(C=0.1, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), logistic.predict_proba(X), atol=1e-5)


def test_ordinal_gradient_is_that_of_its_loss() -> None:
    rng = np.random.default_rng(7)
    numbers, weights = rng.integers(0, 4, 30), rng.uniform(0.5, 2, 30)
    loss = _cumulative(numbers, weights)
    place = np.concatenate([rng.standard_normal(30), [-1.0, 0.1, 0.3]])

    def value(at: np.ndarray) -> float:
        return loss(at[:30, None], at[30:], slice(0, 30))[0]

    _, by_score, by_free = loss(place[:30, None], place[30:], slice(0, 30))
    step = 1e-6 * np.eye(33)
    numeric = [(value(place + each) - value(place - each)) / 2e-6 for each in step]
    np.testing.assert_allclose(np.concatenate([by_score[:, 0], by_free]), numeric, atol=1e-6)


def test_ordinal_path_takes_rows_of_a_larger_matrix() -> None:
    X = correlated(200, 6, seed=8)
    y = np.digitize(X[:, 0], np.quantile(X[:, 0], [0.3, 0.7]))
    rows = np.arange(0, 200, 2)
    for ours in penalty_path(
        OrdinalLogistic, Rows(features_ND=X, index_M=rows), y[rows], inverse_penalties=(0.01, 1.0)
    ):
        alone = OrdinalLogistic(C=ours.C).fit(X[rows], y[rows])
        np.testing.assert_allclose(ours.predict_proba(X), alone.predict_proba(X), atol=2e-3)


def test_neighbours_make_one_copy_of_the_features() -> None:
    X = np.random.default_rng(0).standard_normal((20_000, 64), np.float32)
    tracemalloc.start()
    CosineNeighboursRegressor().fit(X, np.zeros(len(X)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * X.nbytes
