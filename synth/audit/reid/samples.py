"""What a re-identification head sees of a clip: single frames, the whole and its halves, or one heart cycle.

N clips, M samples, T times, R rows, C columns, K phase bins, D features of a token or a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.embed.positions import position_means, without_position
from echofm.embed.rhythm import at_times, cycle_length_s
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.verify import Recordings
from synth.audit.sets import text
from synth.audit.settings import Level

Source = Literal["tokens", "phase", "video"]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

FIRST, SECOND, WHOLE, OTHER = 0, 1, 2, 3
# A table is gone through in parts, so that tokens larger than memory are never held at once.
_BLOCK_CLIPS = 1024
_ROUNDS = 10


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

    def recordings(self, table: EmbeddingTable, feature_ME: Floats, part: int) -> Recordings:
        """What a head made of these samples, as recordings of the table's clips: of one half, or of the WHOLE."""
        if part == WHOLE:
            feature = whole_clips(feature_ME, self.clip_M, self.part_M, len(table))
            rows = np.flatnonzero(np.isfinite(feature[:, 0]))
            feature = feature[rows]
        else:
            feature, rows = feature_ME[self.part_M == part], self.clip_M[self.part_M == part]
        clip_Q, patient_Q, view_Q = (text(column)[rows] for column in (table.clip_id, table.patient_id, table.view))
        return Recordings(feature_QD=feature, clip_Q=clip_Q, patient_Q=patient_Q, view_Q=view_Q)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """How samples of a level are made.

    frame: the tokens of each frame, places side by side. clip: the mean of these over time, of the whole clip and of
    either half (of a table with clip vectors alone: these). motion: one cycle of `bins` phases, turned to agree with
    `template_KD`, of the whole and of each half that shows a whole cycle, after what a token's position in its window
    explains (`position_TD`, where positions are known) is taken off; a clip without a cycle has no sample.
    """

    level: Level
    source: Source
    bins: int
    template_KD: Floats | None = None
    position_TD: Floats | None = None

    @classmethod
    def learned(cls, table: EmbeddingTable, level: Level, *, bins: int) -> Sampling:
        """From training clips. Raises EchofmError where they have nothing for the level."""
        plain = cls(level=level, source=source_of(table, level), bins=bins)
        if level != "motion":
            return plain
        plain = replace(plain, position_TD=position_means(table))
        cycles = plain.samples(table)
        if len(cycles) == 0:
            raise EchofmError(
                "no training clip shows a whole heart cycle, which the motion level needs; leave motion out of "
                "--levels or embed longer clips of known frame times"
            )
        template_KD = common_template(cycles.feature_MD.reshape(len(cycles), bins, -1).astype(np.float64))
        return replace(plain, template_KD=template_KD.astype(np.float32))

    def samples(self, table: EmbeddingTable) -> Samples:
        """All samples of a table's clips. Raises EchofmError where the table lacks the source."""
        if self.source == "tokens" and table.tokens is None:
            raise EchofmError(
                f"the {self.level} head reads space-time tokens, which the table lacks; embed with --tokens"
            )
        if self.source == "phase" and table.phase is None:
            raise EchofmError(
                f"the {self.level} head reads phase features, which the table lacks; embed without --no-phase"
            )
        if self.level == "motion":
            assert table.phase is not None
            return _joined(self._cycles(table), width=self.bins * table.phase.feature_PD.shape[1])
        if self.source == "video":
            everyone = np.arange(len(table))
            return Samples(feature_MD=table.video_ND, clip_M=everyone, part_M=np.full(len(table), WHOLE, np.int64))
        if table.tokens is not None and self.source == "tokens":
            clips = list(table.tokens.feature_NTRCD.reshape(len(table), table.tokens.grid[0], -1))
        else:
            clips = [frames for frames, _ in _timelines(table, None)]
        return _joined(_single_frames(clips) if self.level == "frame" else _means(clips), width=clips[0].shape[-1])

    def _cycles(self, table: EmbeddingTable) -> Iterator[_Piece]:
        for number, (frames, time_s) in enumerate(_timelines(table, self.position_TD)):
            half = len(frames) // 2
            halves = (FIRST, slice(0, half)), (SECOND, slice(len(frames) - half, None))
            for part, chosen in (*halves, (WHOLE, slice(None))):
                cycle = one_cycle(frames[chosen], time_s[chosen], bins=self.bins)
                if cycle is not None:
                    turned = cycle if self.template_KD is None else turn_to(self.template_KD, cycle)
                    yield turned.reshape(1, -1).astype(np.float32), number, np.array([part])


# Samples of one clip, its row, and of each sample the part.
_Piece = tuple[Floats, int, npt.NDArray[np.int64]]


def _timelines(table: EmbeddingTable, position_TD: Floats | None) -> Iterator[tuple[Floats, Doubles]]:
    """Of each clip its phase tokens (T, D) and their seconds."""
    phase = table.phase if position_TD is None else without_position(table, position_TD).phase
    assert phase is not None
    for first, last in pairwise(phase.start_N1):
        yield phase.feature_PD[first:last], phase.time_s_P[first:last]


def _single_frames(clips: list[Floats]) -> Iterator[_Piece]:
    """Every frame; the middle ones of the two halves stand for these."""
    for number, frames in enumerate(clips):
        part = np.full(len(frames), OTHER, np.int64)
        if len(frames) >= 2:
            part[len(frames) // 4], part[len(frames) - 1 - len(frames) // 4] = FIRST, SECOND
        yield frames, number, part


def _means(clips: list[Floats]) -> Iterator[_Piece]:
    """The mean over the first half, over the second and over all frames."""
    for number, frames in enumerate(clips):
        half = len(frames) // 2
        kept = [(FIRST, frames[:half]), (SECOND, frames[-half:])] if half else []
        for part, chosen in [*kept, (WHOLE, frames)]:
            yield chosen.mean(0, keepdims=True, dtype=np.float64).astype(np.float32), number, np.array([part])


def _joined(pieces: Iterable[_Piece], *, width: int) -> Samples:
    nothing = np.zeros((0, width), np.float32), 0, np.zeros(0, np.int64)
    features, numbers, parts = zip(*pieces, nothing)
    return Samples(
        feature_MD=np.concatenate(features),
        clip_M=np.repeat(np.array(numbers, np.int64), [len(each) for each in parts]),
        part_M=np.concatenate(parts),
    )


def whole_clips(unit_ME: Floats, clip_M: npt.NDArray[np.int64], part_M: npt.NDArray[np.int64], clips: int) -> Floats:
    """(N, E) a unit vector per clip: its WHOLE sample, or the mean of its frames; NaN where it has no sample."""
    chosen = part_M == WHOLE if (part_M == WHOLE).any() else np.ones(len(part_M), bool)
    total = np.zeros((clips, unit_ME.shape[1]))
    np.add.at(total, clip_M[chosen], unit_ME[chosen])
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.full_like(total, np.nan), where=length > 0).astype(np.float32)


def one_cycle(feature_TD: npt.NDArray[np.floating], time_s_T: Doubles, *, bins: int) -> Doubles | None:
    """(K, D) the clip's beats as one, resampled to K phases from an arbitrary origin, their mean taken out.

    Without its mean a cycle no longer says what the heart looks like, only how it moves. None without a cycle.
    """
    length_s = cycle_length_s(feature_TD, time_s_T)
    if length_s is None:
        return None
    since_s = np.asarray(time_s_T, np.float64) - time_s_T[0]
    beats = max(1, int(np.ceil(since_s[-1] / length_s)))
    wanted_s = (np.arange(beats)[:, None] + np.arange(bins) / bins) * length_s
    inside = wanted_s <= since_s[-1] + 1e-9
    drawn_BKD = at_times(wanted_s, np.asarray(feature_TD, np.float64), since_s)
    cycle_KD = np.where(inside[..., None], drawn_BKD, 0).sum(0) / inside.sum(0)[:, None]
    return cycle_KD - cycle_KD.mean(0)


def common_template(cycle_NKD: Doubles) -> Doubles:
    """(K, D) the mean cycle after all were turned to agree with it (Procrustes over rotations in phase).

    Begins at the cycle that agrees best with the others, so that no draw decides.
    """
    sample = cycle_NKD[np.linspace(0, len(cycle_NKD) - 1, min(len(cycle_NKD), 64)).astype(int)]
    agreement = [sum(_agreement(each, other).max() for other in sample) for each in sample]
    template = sample[int(np.argmax(agreement))]
    for _ in range(_ROUNDS):
        turned = np.stack([turn_to(template, each) for each in cycle_NKD])
        template = turned.mean(0)
    return template


def turn_to(template_KD: npt.NDArray[np.floating], cycle_KD: Doubles) -> Doubles:
    """The cycle, begun at the phase where it agrees best with the template."""
    return np.roll(cycle_KD, -int(_agreement(template_KD, cycle_KD).argmax()), axis=0)


def _agreement(template_KD: npt.NDArray[np.floating], cycle_KD: Doubles) -> Doubles:
    """(K,) inner product of the template with the cycle begun at each phase."""
    spectrum = np.fft.rfft(cycle_KD, axis=0) * np.conj(np.fft.rfft(template_KD, axis=0))
    return np.fft.irfft(spectrum.sum(1), len(template_KD))
