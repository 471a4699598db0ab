"""The parts of re-identification: losses, pairs, halves, verification, cycles, against naive versions of each."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import average_precision_score, roc_auc_score

from echofm.embed.phase import PhaseTokens
from echofm.embed.positions import position_means, token_positions, without_position
from echofm.embed.rhythm import cycle_length_s
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.discriminant import discriminants, weights_L
from synth.audit.reid.fit import batches
from synth.audit.reid.head import SiamesePairs, drawn_pairs, supervised_contrastive
from synth.audit.reid.model import why_not_separate
from synth.audit.reid.options import HALF_OF, half_of, seed_of
from synth.audit.reid.samples import common_template, one_cycle, turn_to
from synth.audit.reid.verify import Recordings, Setting, area, fewer_patients, verifiable, verify


def naive_supcon(unit: torch.Tensor, patient: list[int], temperature: float) -> float:
    losses = []
    for i in range(len(patient)):
        partners = [p for p in range(len(patient)) if p != i and patient[p] == patient[i]]
        if not partners:
            continue
        below = sum(math.exp(float(unit[i] @ unit[a]) / temperature) for a in range(len(patient)) if a != i)
        losses.append(
            -sum(math.log(math.exp(float(unit[i] @ unit[p]) / temperature) / below) for p in partners) / len(partners)
        )
    return sum(losses) / len(losses)


def test_supervised_contrastive_is_the_published_sum() -> None:
    draw = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(11, 5, generator=draw, dtype=torch.float64), dim=1)
    patient = [0, 0, 1, 1, 1, 2, 3, 3, 0, 4, 4]
    loss = supervised_contrastive(unit, torch.tensor(patient), temperature=0.2)
    assert float(loss) == pytest.approx(naive_supcon(unit, patient, 0.2), rel=1e-12)


def test_supervised_contrastive_in_closed_form() -> None:
    # Two patients, their samples equal and the patients opposite: every anchor has one partner and two strangers.
    unit = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    loss = supervised_contrastive(unit, torch.tensor([0, 0, 1, 1]), temperature=0.5)
    assert float(loss) == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 2 * math.exp(-2))))


def test_a_contrastive_loss_without_pairs_is_refused() -> None:
    with pytest.raises(EchofmError, match="no two samples"):
        supervised_contrastive(torch.eye(3), torch.tensor([0, 1, 2]))
    with pytest.raises(EchofmError, match="both a partner and a stranger"):
        drawn_pairs(torch.tensor([0, 0, 0]), torch.Generator().manual_seed(0))


def test_siamese_pairs_are_what_they_say_and_scored_by_binary_cross_entropy() -> None:
    patient, draw = torch.tensor([0, 0, 1, 1, 2, 5, 5]), torch.Generator().manual_seed(3)
    first, second, same = drawn_pairs(patient, draw)
    assert ((patient[first] == patient[second]) == (same == 1)).all() and (first != second).all()
    assert float(same.mean()) == 0.5 and 4 not in first[same == 1]
    pairs = SiamesePairs(6, seed=2)
    features = torch.randn(7, 6, generator=torch.Generator().manual_seed(4))
    loss = pairs.loss(features, patient, torch.Generator().manual_seed(3))
    naive = []
    for one, other, label in zip(first, second, same):
        logit = sum(
            float(w) * abs(float(a) - float(b))
            for w, a, b in zip(pairs.same.weight[0].detach(), features[one], features[other])
        ) + float(pairs.same.bias.detach())
        chance = 1 / (1 + math.exp(-logit))
        naive.append(-math.log(chance if label else 1 - chance))
    assert float(loss.detach()) == pytest.approx(sum(naive) / len(naive), rel=1e-5)


def test_halves_are_disjoint_even_and_do_not_move() -> None:
    patients = [f"p{i}" for i in range(4000)]
    halves = {half: {p for p in patients if half_of(p) == half} for half in ("a", "b")}
    assert not halves["a"] & halves["b"] and len(halves["a"]) + len(halves["b"]) == 4000
    assert 1850 < len(halves["a"]) < 2150
    assert [half_of(f"p{i}") for i in range(6)] == [half_of(f"p{i}") for i in range(6)]
    assert why_not_separate(*(model(HALF_OF[r], seed_of(r, 3)) for r in ("filter", "judge"))) is None
    assert "half a" in str(why_not_separate(model("a", 0), model("a", 1)))
    assert "seed 4" in str(why_not_separate(model("a", 4), model("b", 4)))
    assert "all training patients" in str(why_not_separate(model("all", 0), model("b", 1)))


def model(half: str, seed: int) -> Any:
    return SimpleNamespace(config=SimpleNamespace(half=half, seed=seed, weights_sha256=f"{half}{seed}"))


def test_batches_take_a_patients_samples_from_different_clips() -> None:
    group = np.repeat(np.arange(50), 6)
    clip = np.repeat(np.arange(100), 3)
    seen = []
    for rows in batches(group, clip, groups=8, each=2, rng=np.random.default_rng(0)):
        for one, other in rows.reshape(-1, 2):
            assert group[one] == group[other] and clip[one] != clip[other]
            seen.append(group[one])
    assert sorted(seen) == list(range(50))
    pair = np.array([0, 0, 1])
    alone = list(batches(pair, pair, groups=8, each=2, rng=np.random.default_rng(0)))
    assert sorted(alone[0].tolist()) == [0, 1]


def test_discriminants_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(12), 5)
    samples = rng.standard_normal((12, 7))[group] + rng.standard_normal((60, 7)) @ rng.standard_normal((7, 7))
    ours, mean = discriminants(samples, group, shrink=1e-9, directions=4)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=4).fit(samples, group)
    projected, expected = (samples - mean) @ ours.T, theirs.transform(samples)
    for one, other in zip(projected.T, expected.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) > 1 - 1e-6
    # A sample without a partner tells nothing about the scatter within.
    alone = discriminants(np.vstack([samples, 50 * np.ones((1, 7))]), np.append(group, 12), shrink=1e-9, directions=4)
    np.testing.assert_allclose(alone[0], ours)
    # Drawn wholly to a round scatter they are the principal components of the group means.
    means = np.stack([samples[group == g].mean(0) for g in range(12)])
    principal = np.linalg.svd(means - means.mean(0))[2][:4]
    round_map = discriminants(samples, group, shrink=1.0, directions=4)[0]
    cosine = (round_map / np.linalg.norm(round_map, axis=1, keepdims=True) * principal).sum(1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-6)


def test_weights_are_the_intraclass_correlation_over_the_deviation_within() -> None:
    rng = np.random.default_rng(3)
    patient_N, clip = np.arange(12000) // 3, np.repeat(np.arange(12000), 2)
    between, within = np.array([2.0, 1.0, 0.0]), np.array([1.0, 3.0, 0.5])
    of_clip = between * rng.standard_normal((4000, 3))[patient_N] + within * rng.standard_normal((12000, 3))
    # Samples of one clip lie apart as well; their mean is what counts.
    samples = of_clip[clip] + np.tile([[0.4], [-0.4]], (12000, 3))
    expected = between**2 / (between**2 + within**2) / within
    found = weights_L(samples, clip, patient_N[clip])
    np.testing.assert_allclose(found[:2], expected[:2], rtol=0.05)
    assert 0 <= found[2] < 0.1 * expected[0]
    # A clip without a partner tells nothing; with one clip a patient, samples stand for clips.
    lonely = weights_L(
        np.vstack([samples, 99 * np.ones((1, 3))]), np.append(clip, 12000), np.append(patient_N[clip], 4000)
    )
    np.testing.assert_allclose(lonely, found)
    np.testing.assert_allclose(
        weights_L(of_clip, patient_N, patient_N), weights_L(of_clip, np.arange(12000), patient_N)
    )


def recordings(seed: int = 0, patients: int = 14) -> Recordings:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 4)
    feature = np.repeat(rng.standard_normal((patients, 5)), 4, 0) + 1.2 * rng.standard_normal((patients * 4, 5))
    return Recordings(
        feature_QD=feature,
        clip_Q=np.array([f"c{i}" for i in range(len(patient))]),
        patient_Q=np.array([f"p{p}" for p in patient]),
        view_Q=np.array(["A4C", "A4C", "PLAX", "PLAX"] * patients),
    )


def naive_pairs(one: Recordings, other: Recordings, setting: Setting) -> list[tuple[int, int, int, float]]:
    found = []
    for q in range(len(one)):
        for g in range(len(other)):
            patient, view = one.patient_Q[q] == other.patient_Q[g], one.view_Q[q] == other.view_Q[g]
            clip = one.clip_Q[q] == other.clip_Q[g]
            wanted_view = not view if setting == "across views" else view
            a, b = one.feature_QD[q], other.feature_QD[g]
            score = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            if not patient and wanted_view:
                found.append((q, g, 0, score))
            elif clip if setting == "within acquisition" else patient and not clip and wanted_view:
                found.append((q, g, 1, score))
    return found


@pytest.mark.parametrize("setting", ["within acquisition", "across acquisitions", "across views"])
def test_verification_equals_scikit_learn_on_pairs_made_by_hand(setting: Setting) -> None:
    first = recordings()
    second = Recordings(
        feature_QD=first.feature_QD + 0.5 * np.random.default_rng(5).standard_normal(first.feature_QD.shape),
        clip_Q=first.clip_Q,
        patient_Q=first.patient_Q,
        view_Q=first.view_Q,
    )
    gallery = second if setting == "within acquisition" else first
    pairs = naive_pairs(first, gallery, setting)
    found = verify(first, gallery, setting=setting, draws=50)
    labels, scores = [p[2] for p in pairs], [p[3] for p in pairs]
    assert found.auc.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert area(first, gallery, setting=setting) == pytest.approx(found.auc.value, abs=1e-9)
    assert (len(found.genuine), len(found.impostor)) == (sum(labels), len(labels) - sum(labels))
    own = [[(p[2], p[3]) for p in pairs if p[0] == q] for q in range(len(first))]
    precision = [average_precision_score(*zip(*each)) for each in own]
    assert found.mean_average_precision.value == pytest.approx(float(np.mean(precision)), abs=1e-6)
    assert found.rank1.value == pytest.approx(np.mean([max(each, key=lambda p: p[1])[0] for each in own]))
    false = np.array([np.mean([p[3] >= t for p in pairs if not p[2]]) for t in sorted(scores)])
    missed = np.array([np.mean([p[3] < t for p in pairs if p[2]]) for t in sorted(scores)])
    assert abs(found.eer.value - (false + missed)[np.abs(false - missed).argmin()] / 2) < 0.03
    for estimate in (found.auc, found.eer, found.rank1, found.mean_average_precision):
        assert estimate.low <= estimate.value <= estimate.high
    assert found.patients == 14 and {pair[0] for pair in found.hardest} == {True, False}


def test_ties_count_half_and_what_cannot_be_verified_is_refused() -> None:
    same = recordings(patients=6)
    alike = Recordings(
        feature_QD=np.ones_like(same.feature_QD), clip_Q=same.clip_Q, patient_Q=same.patient_Q, view_Q=same.view_Q
    )
    found = verify(alike, alike, setting="across acquisitions", draws=20)
    assert found.auc.value == pytest.approx(0.5) and found.eer.value == pytest.approx(0.5)
    assert found.rank1.value == 0
    one_clip = same.take(np.arange(0, len(same), 4))
    assert not verifiable(one_clip, one_clip, setting="across acquisitions")
    with pytest.raises(EchofmError, match="nothing can be verified"):
        verify(one_clip, one_clip, setting="across acquisitions")


def test_many_clips_are_thinned_by_patient() -> None:
    patient = np.repeat([f"p{i}" for i in range(40)], 5)
    kept = fewer_patients(patient, most=50)
    assert kept.sum() == 50 and all(kept[patient == p].all() or not kept[patient == p].any() for p in set(patient))
    assert fewer_patients(patient, most=1000).all()


STEP_S = 0.08


def beating(period_s: float, begin: float, *, frames: int = 26, width: int = 8, seed: int = 0) -> np.ndarray:
    world = np.random.default_rng(11).standard_normal((4, width))
    angle = 2 * np.pi * (np.arange(frames) * STEP_S / period_s + begin)
    waves = np.stack([np.cos(angle), np.sin(angle), 0.6 * np.cos(2 * angle), 0.6 * np.sin(2 * angle)], 1)
    return waves @ world + 0.05 * np.random.default_rng(seed).standard_normal((frames, width))


@pytest.mark.parametrize("period_s", [0.5, 0.75, 1.0, 1.3])
def test_the_cycles_length_is_found(period_s: float) -> None:
    for begin in (0.0, 0.4):
        found = cycle_length_s(beating(period_s, begin) + 5.0, np.arange(26) * STEP_S)
        assert found == pytest.approx(period_s, rel=0.04)


def test_no_cycle_is_made_up() -> None:
    time_s = np.arange(26) * STEP_S
    assert cycle_length_s(beating(1.0, 0, frames=8), time_s[:8]) is None
    assert cycle_length_s(beating(1.0, 0), np.full(26, np.nan)) is None
    assert cycle_length_s(np.ones((26, 8)), time_s) is None
    assert one_cycle(beating(1.0, 0)[:4], time_s[:4], bins=16) is None


def test_one_motion_gives_one_cycle_whatever_its_begin_its_rate_and_the_hearts_looks() -> None:
    time_s = np.arange(26) * STEP_S
    cycles = []
    for number, (period_s, begin) in enumerate([(0.7, 0.1), (0.9, 0.55), (1.0, 0.8), (0.8, 0.3)]):
        looks = 4 * np.random.default_rng(number).standard_normal(8)
        cycle = one_cycle(beating(period_s, begin, seed=number) + looks, time_s, bins=16)
        assert cycle is not None and np.abs(cycle.mean(0)).max() < 1e-9
        cycles.append(cycle)
    template = common_template(np.stack(cycles))
    turned = np.stack([turn_to(template, each) for each in cycles])
    spread = np.linalg.norm(turned - turned.mean(0), axis=(1, 2)).mean() / np.linalg.norm(turned.mean(0))
    before = np.stack(cycles)
    assert spread < 0.25 < np.linalg.norm(before - before.mean(0), axis=(1, 2)).mean() / np.linalg.norm(before.mean(0))


def test_a_places_mark_is_taken_off_before_the_cycle_is_sought() -> None:
    """An encoder's own clock, three times as strong as the heart, that begins anew with every window of 16 tokens."""
    rng = np.random.default_rng(8)
    ring = 3 * beating(0.9, 0.0, frames=16, width=8, seed=1)
    clips, length, step = 60, 32, 2
    periods = rng.uniform(0.55, 1.0, clips)
    frames = np.where(np.arange(clips) % 2, 32, 48)
    parts = []
    for period_s, count in zip(periods, frames):
        # Of 48 frames two windows from 0 and 16; where they overlap, the moment nearer its window's middle is kept.
        window = np.repeat([0, 1], 12) if count == 48 else np.zeros(16, int)
        place = np.r_[0:12, 4:16] if count == 48 else np.arange(16)
        features = beating(float(period_s), rng.uniform(), frames=len(place), seed=int(rng.integers(1 << 30)))
        parts.append(
            PhaseTokens(
                feature_PD=(features + ring[place]).astype(np.float32),
                time_s_P=np.arange(len(place)) * STEP_S,
                frame_P=(np.arange(len(place)) * step + 0.5).astype(np.float32),
                window_P=window.astype(np.int32),
                cycle_P=np.full(len(place), np.nan, np.float32),
                start_N1=np.array([0, len(place)]),
            )
        )
    table = EmbeddingTable.from_arrays(
        np.ones((clips, 2)),
        clip_id=[f"c{i}" for i in range(clips)],
        patient_id=[f"p{i}" for i in range(clips)],
        encoder_digest="e",
        phase=PhaseTokens.concat(parts),
        contract={"frames": length},
        settings={"windows": "whole clip"},
    )
    assert token_positions(table) is None
    table = replace(
        table, rows=table.rows.assign(frames=frames.astype(float), windows=np.where(frames == 48, 2.0, 1.0))
    )
    place_P, position_TD = token_positions(table), position_means(table)
    assert place_P is not None and position_TD is not None and table.phase is not None
    assert place_P[:24].tolist() == [*range(12), *range(4, 16)] and place_P[24:40].tolist() == list(range(16))

    def found(tokens: EmbeddingTable) -> float:
        assert tokens.phase is not None
        feature_PD, starts, time_s = tokens.phase.feature_PD, tokens.phase.start_N1, tokens.phase.time_s_P
        lengths = [cycle_length_s(feature_PD[a:b], time_s[a:b]) for a, b in pairwise(starts)]
        return float(np.mean([each is not None and abs(each / p - 1) < 0.1 for each, p in zip(lengths, periods)]))

    with pytest.raises(EchofmError, match="does not tell the positions"):
        without_position(replace(table, contract=None), position_TD)
    assert found(table) < 0.5 < 0.9 < found(without_position(table, position_TD))
