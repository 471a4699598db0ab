"""Which numbers of a table a probe reads: motion tells what a mean hides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.labels.evaluate import evaluate
from probe.labels.features import feature_choices, read_features

CLIPS, SPLITS = 240, ("train", "train", "val", "test")


def table(*, motion: bool = True) -> EmbeddingTable:
    """The label scales how far three of eight features move in one cell; each clip's gain scales all that moves."""
    rng = np.random.default_rng(0)
    label = rng.uniform(20, 70, CLIPS)
    gain = rng.uniform(0.5, 2, (CLIPS, 1, 1, 1))
    motion_NRCD = np.full((CLIPS, 2, 2, 8), 0.1)
    motion_NRCD[:, 1, 0, :3] *= label[:, None] / 40
    return EmbeddingTable.from_arrays(
        rng.standard_normal((CLIPS, 8)),
        motion_NRCD=motion_NRCD * gain if motion else None,
        clip_id=[f"c{i}" for i in range(CLIPS)],
        patient_id=[f"p{i // 2}" for i in range(CLIPS)],
        split=[SPLITS[i // 2 % 4] for i in range(CLIPS)],
        encoder_digest="e",
        labels={"ef_percent": label},
    )


def test_motion_tells_what_the_mean_hides_whatever_the_gain() -> None:
    found = evaluate(table(), target="ef_percent", draws=50).result
    assert found.features in ("motion", "both") and found.score("r2").value > 0.9
    assert evaluate(table(), target="ef_percent", features="video", draws=50).result.score("r2").value < 0.2


def test_what_a_table_does_not_hold_is_not_offered() -> None:
    without = table(motion=False)
    assert feature_choices(without, "auto", kind="linear") == ("video",)
    with pytest.raises(EchofmError, match="offers video"):
        feature_choices(without, "motion", kind="linear")


def test_a_feature_that_never_moves_is_finite() -> None:
    still = EmbeddingTable.from_arrays(
        np.ones((12, 2)), motion_NRCD=np.zeros((12, 1, 1, 2)), clip_id=[str(i) for i in range(12)],
        patient_id=[str(i) for i in range(12)], encoder_digest="e",
    )  # fmt: skip
    assert np.isfinite(read_features(still, "both", kind="linear", train=np.arange(12)).values_NF).all()


def beating(*, seconds: float = 2.4) -> EmbeddingTable:
    """Phase tokens that turn at each clip's heart rate; two clips are too short to tell it."""
    rng = np.random.default_rng(1)
    rate_bpm = rng.uniform(50, 120, CLIPS)
    plane = rng.standard_normal((2, 6))
    features, times = [], []
    for clip in range(CLIPS):
        time_s = np.arange(round((0.3 if clip < 2 else seconds) / 0.08)) * 0.08
        angle = 2 * np.pi * (rng.uniform() + time_s * rate_bpm[clip] / 60)
        turn = np.stack([np.cos(angle), np.sin(angle)], 1) @ plane
        features.append(turn + rng.standard_normal(6) + 0.3 * rng.standard_normal(turn.shape))
        times.append(time_s)
    return EmbeddingTable.from_arrays(
        rng.standard_normal((CLIPS, 6)),
        clip_id=[f"c{i}" for i in range(CLIPS)],
        patient_id=[f"p{i // 2}" for i in range(CLIPS)],
        split=[SPLITS[i // 2 % 4] for i in range(CLIPS)],
        encoder_digest="e",
        phase=PhaseTokens.from_arrays(features, time_s=times),
        labels={"heart_rate_bpm": rate_bpm},
    )


def test_the_rhythm_tells_the_heart_rate() -> None:
    clips = beating()
    found = evaluate(clips, target="heart_rate_bpm", draws=50).result
    assert found.features in ("rhythm", "beat") and found.score("r2").value > 0.9
    assert evaluate(clips, target="heart_rate_bpm", features="phase", draws=50).result.score("r2").value < 0.3
    values = read_features(clips, "rhythm", kind="linear", train=np.arange(10, 100)).values_NF
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values[0], values[1])


def test_without_frame_times_there_is_no_rhythm() -> None:
    clips = beating(seconds=1.0)
    assert clips.phase is not None
    unknown = replace(clips, phase=replace(clips.phase, time_s_P=np.full_like(clips.phase.time_s_P, np.nan)))
    assert "rhythm" in feature_choices(clips, "auto", kind="linear")
    assert "rhythm" not in feature_choices(unknown, "auto", kind="linear")
