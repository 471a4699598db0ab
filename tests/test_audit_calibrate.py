"""With nothing memorised the audit flags alpha; its p-values are uniform; the published rule does not and is shown."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from echofm.errors import EchofmError
from echofm.nearest import nearest
from synth.audit.statistics.calibrate import (
    conformal_p,
    flagged,
    flagged_at_any,
    published_threshold,
    q_values,
    require_holdout,
    smallest_detectable_share,
)
from synth.audit.statistics.scores import combined_p


def naive_p(score: float, null: np.ndarray, patients: np.ndarray) -> float:
    parts = [np.mean(null[patients == name] >= score) for name in np.unique(patients)]
    return (1 + sum(parts)) / (len(parts) + 1)


def test_p_values_equal_the_formula_with_ties_and_patients() -> None:
    rng = np.random.default_rng(0)
    null = rng.integers(0, 8, 60).astype(float)
    patients = rng.integers(0, 9, 60).astype(str)
    scores = rng.integers(-1, 10, 40).astype(float)
    expected = [naive_p(score, null, patients) for score in scores]
    np.testing.assert_allclose(conformal_p(scores, null, patients), expected, rtol=1e-10)


def test_one_clip_each_is_the_rank() -> None:
    np.testing.assert_allclose(conformal_p([0.5, 3.5, 2.0], [1.0, 2.0, 3.0]), [1.0, 0.25, 0.75])


def test_q_values_by_hand() -> None:
    np.testing.assert_allclose(q_values([0.01, 0.04, 0.03, 0.5]), [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5])


def test_too_small_a_holdout_is_refused_and_the_edge_is_not() -> None:
    require_holdout(19, alpha=0.05)
    with pytest.raises(EchofmError, match="at least 19"):
        require_holdout(18, alpha=0.05)
    with pytest.raises(EchofmError, match="at least 99"):
        flagged([1.0], np.arange(50.0), alpha=0.01)


def test_share_that_is_out_of_reach() -> None:
    patients, synthetic = 99, 1000
    share = smallest_detectable_share(patients, alpha=0.05)
    for flags, seen in ((int(share * synthetic), True), (int(share * synthetic) - 1, False)):
        scores = np.concatenate([np.full(flags, 9.0), np.zeros(synthetic - flags)])
        assert (q_values(conformal_p(scores, np.linspace(0.1, 1, patients))) <= 0.05).any() == seen


def test_copies_are_flagged_and_new_patients_are_not() -> None:
    rng = np.random.default_rng(3)
    train, held_out, fresh = (rng.standard_normal((rows, 32)).astype(np.float32) for rows in (1000, 500, 450))
    copies = train[:50] + 0.05 * rng.standard_normal((50, 32)).astype(np.float32)
    null = nearest(held_out, train).similarity_QK[:, 0]
    q = q_values(conformal_p(nearest(np.concatenate([copies, fresh]), train).similarity_QK[:, 0], null))
    assert (q[:50] <= 0.05).all()
    assert (q[50:] <= 0.05).mean() < 0.02


def test_clustered_bootstrap_is_wider_than_clopper_pearson_when_the_null_is_small() -> None:
    rng = np.random.default_rng(4)
    result = flagged(rng.standard_normal(2000), rng.standard_normal(100), alpha=0.05)
    assert result.fraction.high - result.fraction.low > 2 * (result.clopper_pearson.high - result.clopper_pearson.low)
    assert result.excess == pytest.approx(result.fraction.value - 0.05)


def test_excess_p_is_small_for_copies_and_is_the_beta_binomial_tail() -> None:
    null = np.arange(99.0)
    result = flagged(np.full(20, 1000.0), null, alpha=0.05)
    assert result.fraction.value == 1.0
    assert result.excess_p == pytest.approx(scipy.stats.betabinom(20, 5, 95).pmf(20))


def test_any_of_one_level_is_that_level() -> None:
    rng = np.random.default_rng(8)
    score, null, patients = rng.standard_normal(300), rng.standard_normal(200), np.arange(200).astype(str)
    assert flagged_at_any([(score, null)], patients) == flagged(score, null, patients)


def test_any_of_several_levels_flags_what_one_of_them_does_at_its_share_of_alpha() -> None:
    rng = np.random.default_rng(9)
    levels = [(rng.standard_normal(400), rng.standard_normal(199)) for _ in range(3)]
    patients = np.arange(199).astype(str)
    found = flagged_at_any(levels, patients, alpha=0.06)
    p = np.stack([conformal_p(*pair, patients) for pair in levels])
    assert found.fraction.value == (p.min(0) <= 0.02).mean() == (combined_p(list(p)) <= 0.06).mean()
    with pytest.raises(EchofmError, match="at least 149"):
        flagged_at_any([(s, n[:140]) for s, n in levels], patients[:140], alpha=0.02)


@pytest.mark.parametrize("alike", [0.0, 0.7, 1.0])
def test_the_worst_of_three_levels_flags_at_most_alpha(alike: float) -> None:
    """Nothing memorised; levels that know the same, share something, or know nothing of one another."""
    parts, false_part = [], []
    for repetition in range(40):
        rng = np.random.default_rng(repetition)
        common_S, common_H = rng.standard_normal(200), rng.standard_normal(299)
        levels = [
            tuple(alike * each + (1 - alike) * rng.standard_normal(len(each)) for each in (common_S, common_H))
            for _ in range(3)
        ]
        p = combined_p([conformal_p(*pair) for pair in levels])
        parts.append((p <= 0.05).mean())
        false_part.append((q_values(p) <= 0.05).any())
    assert np.mean(parts) <= 0.05 + 2 * np.std(parts) / np.sqrt(40)
    # With nothing to find, every flag is false: Benjamini-Hochberg bounds how often there is one.
    assert np.mean(false_part) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 40)


SIZES = [(7465, 1277), (1000, 1000), (500, 100)]


def simulate(
    train_rows: int, held_out_rows: int, seed: int, width: int = 16
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of synthetic and held-out clips drawn as the training clips are, and the published rule's maxima."""
    rng = np.random.default_rng(seed)
    train, held_out, synthetic = (
        rng.standard_normal((rows, width)).astype(np.float32) for rows in (train_rows, held_out_rows, 200)
    )
    score, null, back = (
        nearest(a, b).similarity_QK[:, 0] for a, b in ((synthetic, train), (held_out, train), (train, held_out))
    )
    return score, null, back


@pytest.mark.slow
@pytest.mark.parametrize(("train_rows", "held_out_rows"), SIZES)
def test_nothing_memorised_flags_alpha_and_p_is_uniform(
    train_rows: int, held_out_rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, published, one_p, covered = [], [], [], []
    for repetition in range(200):
        score, null, back = simulate(train_rows, held_out_rows, seed=repetition)
        result = flagged(score, null, alpha=0.05, draws=200, seed=repetition)
        ours.append(result.fraction.value)
        covered.append(result.fraction.low <= 0.05 <= result.fraction.high)
        published.append(float((score > published_threshold(back)).mean()))
        one_p.append(conformal_p(score[:1], null)[0])
    error = np.std(ours) / np.sqrt(len(ours))
    alpha = np.floor(0.05 * (held_out_rows + 1)) / (held_out_rows + 1)
    with capsys.disabled():
        print(
            f"\n{train_rows}/{held_out_rows}: flagged {np.mean(ours):.3f} +- {error:.3f}, published rule "
            f"{np.mean(published):.3f}, alpha in the interval {np.mean(covered):.0%}"
        )
    assert abs(np.mean(ours) - alpha) < 3 * error
    assert np.mean(covered) >= 0.88
    # One p-value a repetition: those of one repetition share their null and are not independent.
    assert scipy.stats.kstest(one_p, "uniform").pvalue > 0.01


def people(patients: int, clips: int, rng: np.random.Generator, width: int = 32) -> np.ndarray:
    identity = np.repeat(rng.standard_normal((patients, width)), clips, 0)
    return (identity + 0.2 * rng.standard_normal(identity.shape)).astype(np.float32)


@pytest.mark.slow
def test_deciding_by_any_level_of_real_searches_flags_at_most_alpha() -> None:
    """Two levels of the same patients: correlated, as clip and frame are; the final rule, `decide="any"`."""
    parts, covered = [], []
    patients = np.repeat(np.arange(150), 2).astype(str)
    for repetition in range(100):
        rng = np.random.default_rng(repetition)
        sets = [people(300, 2, rng), people(150, 2, rng), people(200, 1, rng)]
        other = [each @ rng.standard_normal((32, 8)).astype(np.float32) for each in sets]
        pairs = []
        for train, held_out, synthetic in (sets, other):
            score, null = (nearest(each, train).similarity_QK[:, 0] for each in (synthetic, held_out))
            pairs.append((score, null))
        found = flagged_at_any(pairs, patients, alpha=0.05, draws=200, seed=repetition)
        parts.append(found.fraction.value)
        covered.append(found.fraction.low <= 0.05)
    assert np.mean(parts) <= 0.05 + 3 * np.std(parts) / np.sqrt(100)
    assert np.mean(covered) >= 0.9


@pytest.mark.slow
def test_false_flags_are_alpha_of_the_flags_on_average() -> None:
    false_part, recall = [], []
    patients = np.repeat(np.arange(600), 2).astype(str)
    for repetition in range(60):
        rng = np.random.default_rng(repetition)
        train, held_out = people(300, 2, rng), people(600, 2, rng)
        copies = train[:40] + 0.02 * rng.standard_normal((40, 32)).astype(np.float32)
        synthetic = np.concatenate([copies, people(360, 1, rng)])
        score, null = (nearest(each, train).similarity_QK[:, 0] for each in (synthetic, held_out))
        flags = q_values(conformal_p(score, null, patients)) <= 0.05
        false_part.append(flags[40:].sum() / max(1, flags.sum()))
        recall.append(flags[:40].mean())
    assert np.mean(false_part) <= 0.05 + 2 * np.std(false_part) / np.sqrt(60)
    assert np.mean(recall) >= 0.95


def test_the_order_of_the_clips_changes_no_interval() -> None:
    rng = np.random.default_rng(0)
    score_LS, null, patients = rng.random((2, 999)) + 0.1, rng.random(60), np.arange(60).astype(str)
    plain, again = (
        flagged_at_any([(own, null) for own in score_LS[:, order]], patients, alpha=0.1)
        for order in (np.arange(999), rng.permutation(999))
    )
    assert plain == again
