"""Attacks find planted copies, and find nothing where nothing was memorised."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from echofm.errors import EchofmError
from echofm.nearest import nearest
from synth.audit.statistics.attacks import _Ranks, membership, naming_risk
from synth.audit.statistics.distances import Clips, closer_to_train, distance_ratio, inauthentic

WIDTH = 24


def real(patients: int, prefix: str, seed: int, clips: int = 2) -> Clips:
    rng = np.random.default_rng(seed)
    identity = np.repeat(rng.standard_normal((patients, WIDTH)), clips, 0)
    features = identity + 0.3 * rng.standard_normal(identity.shape)
    names = np.repeat([f"{prefix}{i}" for i in range(patients)], clips)
    return Clips(features_ND=features.astype(np.float32), patient_N=names)


TRAIN, HOLDOUT = real(200, "t", 0), real(80, "h", 1)
FRESH = real(150, "s", 2, clips=1).features_ND
COPIES = TRAIN.features_ND[::2] + 0.05 * np.random.default_rng(3).standard_normal((200, WIDTH)).astype(np.float32)


def test_membership_tells_copies_and_nothing_from_new_patients() -> None:
    nothing = membership(TRAIN, HOLDOUT, FRESH, metric="cosine").auc
    copied = membership(TRAIN, HOLDOUT, COPIES, metric="cosine")
    assert nothing.low < 0.5 < nothing.high
    assert copied.auc.low > 0.95
    assert copied.tpr_at_1_percent_fpr.value > 0.5


def test_auc_and_tpr_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    synthetic = rng.standard_normal((50, WIDTH))
    result = membership(TRAIN, HOLDOUT, synthetic, metric="pearson")
    score = np.corrcoef(np.concatenate([TRAIN.features_ND, HOLDOUT.features_ND]), synthetic)[:560, 560:].max(1)
    label = np.repeat([1, 0], [400, 160])
    assert result.auc.value == pytest.approx(roc_auc_score(label, score), abs=1e-9)
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    assert result.tpr_at_1_percent_fpr.value == pytest.approx(tpr[fpr <= 0.01].max())


def test_weights_are_clips_that_often() -> None:
    rng = np.random.default_rng(7)
    member, other = rng.integers(0, 30, 90).astype(float), rng.integers(0, 25, 250).astype(float)
    times = rng.integers(0, 4, 90), rng.integers(0, 4, 250)
    weighed = _Ranks.of(member, other).figures(*(each.astype(float) for each in times))
    repeated = np.repeat(member, times[0]), np.repeat(other, times[1])
    label, score = np.repeat([1, 0], [len(each) for each in repeated]), np.concatenate(repeated)
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    assert weighed == pytest.approx((roc_auc_score(label, score), tpr[fpr <= 0.01].max()))


def test_closer_to_train_is_one_half_whatever_the_sizes() -> None:
    nothing = closer_to_train(TRAIN, HOLDOUT, FRESH, metric="cosine")
    assert nothing.low < 0.5 < nothing.high
    swapped = closer_to_train(HOLDOUT, TRAIN, FRESH, metric="cosine")
    assert swapped.low < 0.5 < swapped.high
    assert closer_to_train(TRAIN, HOLDOUT, COPIES, metric="cosine").value > 0.65


def test_the_interval_of_closer_to_train_holds_one_half_where_nothing_was_memorised() -> None:
    """A few real patients are nearest to many clips, so that these do not count each: as if they did, 23 of 40 held."""
    rng, held = np.random.default_rng(9), 0
    spread = 1 / np.sqrt(np.arange(1, 33))
    for _ in range(40):
        train, holdout, fresh = (
            (spread * rng.standard_normal((size, 32))).astype(np.float32) for size in (100, 100, 1000)
        )
        sides = [Clips(features_ND=each, patient_N=np.arange(100).astype(str)) for each in (train, holdout)]
        found = closer_to_train(*sides, fresh, metric="cosine", draws=1)
        held += found.low <= 0.5 <= found.high
    assert held >= 36


def test_the_order_of_the_rows_changes_no_draw() -> None:
    def named(side: Clips, order: np.ndarray) -> Clips:
        clips = np.array([f"{patient}-{row}" for row, patient in enumerate(side.patient_N)])
        return Clips(features_ND=side.features_ND[order], patient_N=side.patient_N[order], clip_N=clips[order])

    rng = np.random.default_rng(8)
    plain, turned = (
        closer_to_train(named(TRAIN, train), named(HOLDOUT, holdout), FRESH[own], metric="cosine", draws=3)
        for train, holdout, own in (
            [np.arange(len(each)) for each in (TRAIN.patient_N, HOLDOUT.patient_N, FRESH)],
            [rng.permutation(len(each)) for each in (TRAIN.patient_N, HOLDOUT.patient_N, FRESH)],
        )
    )
    assert turned.value == pytest.approx(plain.value) and turned.low == pytest.approx(plain.low)


def test_many_clips_of_a_held_out_patient_do_not_hide_copies() -> None:
    many = real(200, "h", 4, clips=6)
    alone = Clips(features_ND=TRAIN.features_ND[::2], patient_N=TRAIN.patient_N[::2])
    nothing = closer_to_train(alone, many, FRESH, metric="cosine")
    assert nothing.low < 0.5 < nothing.high
    loose = alone.features_ND + 0.6 * np.random.default_rng(6).standard_normal(alone.features_ND.shape)
    assert closer_to_train(alone, many, loose, metric="cosine").low > 0.5


def test_distance_ratio_looks_past_the_same_patients_other_clips() -> None:
    copy = distance_ratio(TRAIN.features_ND[:1], TRAIN, metric="cosine")
    assert copy[0] == pytest.approx(0.0, abs=1e-3)
    ratio = distance_ratio(FRESH, TRAIN, metric="cosine")
    assert ((ratio > 0) & (ratio <= 1)).all()
    similarity = np.corrcoef(FRESH[0], TRAIN.features_ND)[0, 1:]
    by_patient = {name: similarity[TRAIN.patient_N == name].max() for name in np.unique(TRAIN.patient_N)}
    first, second = sorted(by_patient.values())[-1:-3:-1]
    expected = np.sqrt((2 - 2 * first) / (2 - 2 * second))
    assert distance_ratio(FRESH[:1], TRAIN, metric="pearson")[0] == pytest.approx(expected, abs=1e-5)


def test_copies_are_inauthentic_and_new_patients_as_authentic_as_held_out_ones() -> None:
    assert inauthentic(COPIES, TRAIN, metric="cosine").mean() > 0.99
    many = real(1500, "s", 6, clips=1).features_ND
    new, held_out = (inauthentic(each, TRAIN, metric="cosine").mean() for each in (many[:750], many[750:]))
    assert abs(new - held_out) < 4 * np.sqrt(0.5 / 750)


def test_naming_risk_is_nothing_for_new_patients_and_high_for_copies() -> None:
    copied = naming_risk(TRAIN, HOLDOUT, COPIES, metric="cosine")
    assert copied.attack.low > 0.7
    assert copied.risk > 0.6
    assert copied.informative
    nothing = naming_risk(TRAIN, HOLDOUT, FRESH, metric="cosine")
    assert nothing.attack.low < 0.5 < nothing.attack.high


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(EchofmError, match=r"40 held-out patients.*there are 39 and 200$"):
        naming_risk(TRAIN, real(39, "h", 1), FRESH, metric="cosine")
    with pytest.raises(EchofmError, match="two training patients"):
        distance_ratio(FRESH, real(1, "t", 0), metric="cosine")


def test_distance_ratio_looks_past_a_patient_who_fills_what_was_kept() -> None:
    many = real(2, "m", 10, clips=30)
    kept = nearest(many.features_ND[:3], many.features_ND, k=5, metric="cosine")
    whole = distance_ratio(many.features_ND[:3], many, metric="cosine")
    assert distance_ratio(many.features_ND[:3], many, metric="cosine", found=kept) == pytest.approx(whole, abs=1e-6)
