"""Levels: what of a clip is compared. One vector of the whole clip, a few of its frames, or one of its motion.

N clips, V vectors, D features. A clip's similarity to a training set is that of its closest vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.settings import LEVELS, Level


class Head(Protocol):
    """A re-identification model (synth.audit.reid): tables of an encoder become tables of identity."""

    @property
    def levels(self) -> Mapping[Any, Any]:
        """By level, what it can project to."""
        ...

    def digest(self, level: Level) -> str:
        """Changes with the head's weights and its encoder."""
        ...

    def usable(self, table: EmbeddingTable, *, level: Level) -> npt.NDArray[np.bool_]:
        """(N,) the clips that have features at a level."""
        ...

    def project(self, table: EmbeddingTable, *, level: Level) -> EmbeddingTable:
        """The same clips in the head's features; with `phase` where a level has several vectors a clip."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """vectors_VD: float32, may be mapped. owner_V: row of the clip that each belongs to, rising; a clip without
    features at the level owns none."""

    vectors_VD: npt.NDArray[np.floating]
    owner_V: npt.NDArray[np.int64]
    clips: int

    def is_plain(self) -> bool:
        """Whether every clip has exactly one vector."""
        return len(self.owner_V) == self.clips


def available(tables: Sequence[EmbeddingTable], head: Head | None) -> list[Level]:
    """The levels that these tables can be compared at. Motion needs a head, frames need token-time features."""
    if head is None:
        return ["clip", "frame"] if all(table.phase is not None for table in tables) else ["clip"]
    return [level for level in LEVELS if level in head.levels]


def projected(table: EmbeddingTable, level: Level, head: Head | None) -> EmbeddingTable:
    """The table in the features of one level. Raises EchofmError where a clip has none (motion alone)."""
    return table if head is None else head.project(table, level=level)


def frames_of(tables: Sequence[EmbeddingTable], *, most: int) -> int:
    """How many token times of each clip to compare: the same everywhere, because the maximum over more is higher."""
    fewest = min((int(np.diff(t.phase.start_N1).min()) for t in tables if t.phase is not None and len(t)), default=1)
    return max(1, min(most, fewest))


def vectors(table: EmbeddingTable, level: Level, *, head: Head | None, frames: int) -> Vectors:
    """The vectors of every clip at one level; at frame level `frames` of its token times, spread evenly over the clip.

    Clips that a head has no features for at this level (motion: those without a whole heart cycle) get no vector.
    Raises EchofmError where the frame level is asked of a table without token-time features.
    """
    has = np.ones(len(table), bool) if head is None else head.usable(table, level=level)
    own = np.flatnonzero(has)
    found = projected(table if has.all() else table.select(own), level, head)
    if level != "frame":
        return Vectors(vectors_VD=found.video_ND, owner_V=own, clips=len(table))
    if found.phase is None:
        raise EchofmError("the frame level needs token-time features; embed with `--phase` or leave the level out")
    starts, length = found.phase.start_N1[:-1], np.diff(found.phase.start_N1)
    if len(length) and length.min() < 1:
        raise EchofmError(
            f"row {own[length.argmin()]} of a table has no token-time features; embed it again or drop it"
        )
    position_NK = (starts[:, None] + ((np.arange(frames) + 0.5) / frames * length[:, None])).astype(np.int64)
    return Vectors(
        vectors_VD=found.phase.feature_PD[position_NK.ravel()], owner_V=np.repeat(own, frames), clips=len(table)
    )
