"""What a re-identification head sees of a clip: single frames, the whole and its halves, or one heart cycle.

N clips, M samples, T times, R rows, C columns, K phase bins, D features of a token or a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.embed.positions import without_position
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.cycle import one_cycle, turn_to

Level = Literal["frame", "clip", "motion"]
LEVELS: tuple[Level, ...] = ("frame", "clip", "motion")
Source = Literal["tokens", "phase", "video"]
Floats = npt.NDArray[np.float32]

FIRST, SECOND, WHOLE, OTHER = 0, 1, 2, 3
BINS = 16
"""Phases of a cycle: at 75 beats a minute one every 50 ms, finer than a token of four frames sees."""
# A table is gone through in parts, so that tokens larger than memory are never held at once.
_BLOCK_CLIPS = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples of a table's clips.

    feature_MD: float32. clip_M: rows of the table, rising. part_M: FIRST and SECOND come from the two halves of a clip
    and share no frame, WHOLE is the whole clip, OTHER further single frames.
    """

    feature_MD: Floats
    clip_M: npt.NDArray[np.int64]
    part_M: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.feature_MD)


def source_of(table: EmbeddingTable, level: Level) -> Source:
    """Where a level's samples come from: space-time tokens where the table has them, since a mean forgets places.

    Raises EchofmError where the table has nothing for the level.
    """
    if level != "motion" and table.tokens is not None:
        return "tokens"
    if level == "clip":
        return "video"
    if table.phase is None:
        raise EchofmError(f"the table has no phase features, which the {level} level needs; embed without --no-phase")
    return "phase"


def available_levels(table: EmbeddingTable) -> tuple[Level, ...]:
    """The levels that a table has features for."""
    found: list[Level] = ["clip"]
    if table.phase is not None or table.tokens is not None:
        found.insert(0, "frame")
    if table.phase is not None:
        found.append("motion")
    return tuple(found)


def blocks(table: EmbeddingTable) -> Iterator[tuple[int, EmbeddingTable]]:
    """The table part by part, with the number of each part's first row."""
    for first in range(0, len(table), _BLOCK_CLIPS):
        yield first, table.select(np.arange(first, min(first + _BLOCK_CLIPS, len(table))))


def samples(
    table: EmbeddingTable,
    level: Level,
    *,
    source: Source,
    bins: int = BINS,
    template_KD: npt.NDArray | None = None,
    position_TD: Floats | None = None,
) -> Samples:
    """All samples of a table's clips at one level.

    frame: the tokens of each frame, places side by side. clip: the mean of these over time, of the whole clip and of
    either half (of a table with clip vectors alone: these). motion: one cycle, turned to agree with `template_KD`, of
    the whole and of each half that shows a whole cycle, after what a token's position in its window explains
    (`position_TD`) is taken off; a clip without a cycle has no sample.
    Raises EchofmError where the table lacks the source.
    """
    _require(table, source, level)
    if level == "motion":
        return _cycles(table, bins, template_KD, position_TD)
    if source == "video":
        return Samples(
            feature_MD=table.video_ND, clip_M=np.arange(len(table)), part_M=np.full(len(table), WHOLE, np.int64)
        )
    if source == "tokens":
        assert table.tokens is not None
        frames = table.tokens.feature_NTRCD.reshape(len(table), table.tokens.grid[0], -1)
        return _single_frames(list(frames)) if level == "frame" else _means(list(frames))
    return _single_frames([each for each, _ in _timelines(table, None)])


def _require(table: EmbeddingTable, source: Source, level: Level) -> None:
    if source == "tokens" and table.tokens is None:
        raise EchofmError(f"the {level} head reads space-time tokens, which the table lacks; embed with --tokens")
    if source == "phase" and table.phase is None:
        raise EchofmError(f"the {level} head reads phase features, which the table lacks; embed without --no-phase")


def _timelines(table: EmbeddingTable, position_TD: Floats | None) -> Iterator[tuple[Floats, npt.NDArray[np.float64]]]:
    """Of each clip its phase tokens (T, D) and their seconds."""
    phase = table.phase if position_TD is None else without_position(table, position_TD).phase
    assert phase is not None
    for first, last in pairwise(phase.start_N1):
        yield phase.feature_PD[first:last], phase.time_s_P[first:last]


def _single_frames(clips: list[Floats]) -> Samples:
    """Every frame; the middle ones of the two halves stand for these."""
    parts, owners = [], []
    for number, frames in enumerate(clips):
        part = np.full(len(frames), OTHER, np.int64)
        if len(frames) >= 2:
            part[len(frames) // 4], part[len(frames) - 1 - len(frames) // 4] = FIRST, SECOND
        parts.append(part)
        owners.append(np.full(len(frames), number, np.int64))
    return _joined(clips, owners, parts)


def _means(clips: list[Floats]) -> Samples:
    """The mean over the first half, over the second and over all frames."""
    features, owners, parts = [], [], []
    for number, frames in enumerate(clips):
        half = len(frames) // 2
        kept = [(FIRST, frames[:half]), (SECOND, frames[-half:])] if half else []
        for part, chosen in [*kept, (WHOLE, frames)]:
            features.append(chosen.mean(0, keepdims=True, dtype=np.float64).astype(np.float32))
            owners.append(np.array([number]))
            parts.append(np.array([part]))
    return _joined(features, owners, parts)


def _cycles(table: EmbeddingTable, bins: int, template_KD: npt.NDArray | None, position_TD: Floats | None) -> Samples:
    features, owners, parts = [], [], []
    width = table.phase.feature_PD.shape[1] if table.phase is not None else 0
    for number, (frames, time_s) in enumerate(_timelines(table, position_TD)):
        half = len(frames) // 2
        for part, chosen in ((FIRST, slice(0, half)), (SECOND, slice(len(frames) - half, None)), (WHOLE, slice(None))):
            cycle = one_cycle(frames[chosen], time_s[chosen], bins=bins)
            if cycle is None:
                continue
            turned = cycle if template_KD is None else turn_to(template_KD, cycle)
            features.append(turned.reshape(1, -1).astype(np.float32))
            owners.append(np.array([number]))
            parts.append(np.array([part]))
    if not features:
        features, owners, parts = [np.zeros((0, bins * width), np.float32)], [], []
    return _joined(features, owners, parts)


def _joined(features: list[Floats], owners: list[npt.NDArray[np.int64]], parts: list[npt.NDArray[np.int64]]) -> Samples:
    nothing = [np.zeros(0, np.int64)]
    return Samples(
        feature_MD=np.concatenate(features),
        clip_M=np.concatenate(owners or nothing),
        part_M=np.concatenate(parts or nothing),
    )


def whole_clips(unit_ME: Floats, clip_M: npt.NDArray[np.int64], part_M: npt.NDArray[np.int64], clips: int) -> Floats:
    """(N, E) a unit vector per clip: its WHOLE sample, or the mean of its frames; NaN where it has no sample."""
    chosen = part_M == WHOLE if (part_M == WHOLE).any() else np.ones(len(part_M), bool)
    total = np.zeros((clips, unit_ME.shape[1]))
    np.add.at(total, clip_M[chosen], unit_ME[chosen])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.full_like(total, np.nan), where=length > 0).astype(np.float32)
