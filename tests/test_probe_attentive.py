"""The attentive probe finds the token that tells, where a mean hides it; missing tokens do not count."""

from __future__ import annotations

import numpy as np
import pytest

from echofm.estimators.attentive import AttentiveClassifier, AttentiveRegressor

CLIPS, TOKENS, WIDTH = 300, 12, 16


def clips(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One token of each clip, at any place, is marked and carries the value; the others carry other values."""
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((CLIPS, TOKENS, WIDTH)).astype(np.float32)
    tokens[:, :, 0] = 0
    place, value = rng.integers(0, TOKENS, CLIPS), rng.standard_normal(CLIPS)
    tokens[np.arange(CLIPS), place, 0] = 6
    tokens[np.arange(CLIPS), place, 1] = 2 * value
    return tokens.reshape(CLIPS, -1), value


def test_the_token_that_tells_is_found() -> None:
    (X, y), (X_val, y_val), (fresh, truth) = clips(0), clips(1), clips(2)
    fitted = AttentiveRegressor(TOKENS).fit(X, y, X_val=X_val, y_val=y_val)
    assert fitted.score(fresh, truth) > 0.8
    mean = X.reshape(CLIPS, TOKENS, WIDTH).mean(1)
    fresh_mean = fresh.reshape(CLIPS, TOKENS, WIDTH).mean(1)
    assert AttentiveRegressor(1).fit(mean, y).score(fresh_mean, truth) < 0.4
    classes, fresh_classes = np.array(["low", "high"])[(y > 0) * 1], np.array(["low", "high"])[(truth > 0) * 1]
    stated = AttentiveClassifier(TOKENS).fit(X, classes)
    assert stated.score(fresh, fresh_classes) > 0.85
    np.testing.assert_allclose(stated.predict_proba(fresh).sum(1), 1)


def test_missing_tokens_do_not_count() -> None:
    X, y = clips(3)
    fitted = AttentiveRegressor(TOKENS, epochs=2, min_steps=30).fit(X, y)
    padded = np.concatenate([X, np.full((CLIPS, 4 * WIDTH), np.nan, np.float32)], 1)
    longer = AttentiveRegressor(TOKENS + 4, epochs=2, min_steps=30).fit(padded, y)
    np.testing.assert_allclose(longer.predict(padded), fitted.predict(X), rtol=1e-3, atol=1e-3)
    partly = X.copy().reshape(CLIPS, TOKENS, WIDTH)
    partly[:, 3, 5] = np.nan
    wholly = partly.copy()
    wholly[:, 3] = np.nan
    np.testing.assert_array_equal(fitted.predict(partly.reshape(CLIPS, -1)), fitted.predict(wholly.reshape(CLIPS, -1)))
    assert np.isfinite(fitted.predict(np.full((1, TOKENS * WIDTH), np.nan))).all()


def test_one_seed_one_result_and_an_early_stop() -> None:
    (X, _), (X_val, _) = clips(4), clips(5)
    noise = np.random.default_rng(0).standard_normal(CLIPS)
    fits = [
        AttentiveRegressor(TOKENS, epochs=60, patience=3, min_steps=1, random_state=seed).fit(
            X, noise, X_val=X_val, y_val=np.zeros(CLIPS)
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(fits[0].predict(X), fits[1].predict(X))
    assert np.abs(fits[0].predict(X) - fits[2].predict(X)).max() > 1e-3
    assert fits[0].n_iter_ < 60
    # The best epoch's weights were put back: what was learnt of noise is little.
    assert fits[0].score(X, noise) < 0.5


def test_features_that_are_no_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="no 5 tokens of equal width"):
        AttentiveRegressor(5).fit(np.zeros((10, 12)), np.arange(10.0))
