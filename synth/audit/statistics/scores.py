"""What of a clip is compared, its score and p-value at one level, and which clips are flagged by one or any of several.

A level compares one vector of the whole clip, a few of its frames, or one of its motion. A clip's similarity to a
training set is that of its closest vector.

S synthetic clips, H held-out clips, C canaries, N training clips, V vectors, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.nearest import Neighbours
from synth.audit.canaries.transforms import power
from synth.audit.result import CanaryRecall, FlaggedPart
from synth.audit.sets import LEFT_OUT, Head, Sets, text
from synth.audit.settings import LEVELS, AuditSettings, Level
from synth.audit.statistics.calibrate import at_most, conformal_p, flagged_at_any, published_threshold, q_values
from synth.audit.statistics.search import Search

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Closest:
    """Of each clip: its similarity to the training set, and the row of the training clip that it is closest to.

    found: all neighbours kept, by training row, where a clip is one vector; else None.
    """

    score: Doubles
    neighbour: npt.NDArray[np.int64]
    found: Neighbours | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelScores:
    """One level. p_S, q_S: conformal p and Benjamini-Hochberg q; threshold: the published rule's."""

    level: Level
    synthetic: Closest
    holdout: Closest
    canaries: Closest | None
    p_S: Doubles
    q_S: Doubles
    p_C: Doubles
    threshold: float
    features: int
    recall: float


def scores(
    sets: Sets,
    level: Level,
    *,
    head: Head | None = None,
    settings: AuditSettings,
    kept: int = 1,
) -> LevelScores:
    """Search all sets in the training set at one level; p-values by held-out patient. kept: neighbours to keep."""
    found = {
        name: vectors(table, level, head=head, frames=settings.frames)
        for name, table in {"train": sets.train, "holdout": sets.holdout, "synthetic": sets.synthetic}.items()
    }
    train = found["train"]
    for name, each in found.items():
        if len(each.owner_V) == 0 and name != "synthetic":
            raise EchofmError(f"no clip of the {name} set has features at the {level} level; leave the level out")
    search = Search(train.vectors_VD, metric=settings.metric, kind=settings.index)
    synthetic, holdout = (closest(found[name], train, search, kept=kept) for name in ("synthetic", "holdout"))
    back = closest(
        train, found["holdout"], Search(found["holdout"].vectors_VD, metric=settings.metric, kind=settings.index)
    )
    patient_H = text(sets.holdout.patient_id)
    p_S = conformal_p(synthetic.score, holdout.score, patient_H)
    canaries, p_C = None, np.empty(0)
    if sets.canaries is not None and len(sets.canaries):
        planted = vectors(sets.canaries, level, head=head, frames=settings.frames)
        canaries = _of_canaries(planted, sets.canaries, sets.train, train, search)
        p_C = conformal_p(canaries.score, holdout.score, patient_H)
    return LevelScores(
        level=level,
        synthetic=synthetic,
        holdout=holdout,
        canaries=canaries,
        p_S=p_S,
        q_S=q_values(p_S),
        p_C=p_C,
        threshold=published_threshold(back.score),
        features=train.vectors_VD.shape[1],
        recall=search.recall_on(found["synthetic"].vectors_VD),
    )


def closest(queries: Vectors, reference: Vectors, search: Search, *, kept: int = 1) -> Closest:
    """Each clip's closest vector pair; of equals the training clip that comes first.

    A clip without a vector scores -inf and has neighbour -1: held-out and synthetic clips alike, so that the score
    stays a function of the clip alone and p-values stay valid.
    """
    if len(queries.owner_V) == 0:
        return Closest(score=np.full(queries.clips, -np.inf), neighbour=np.full(queries.clips, -1))
    found = search.nearest(queries.vectors_VD, k=kept)
    if queries.is_plain() and reference.is_plain():
        return Closest(score=found.similarity_QK[:, 0], neighbour=found.index_QK[:, 0], found=found)
    return _best_of_each(queries, reference, found.similarity_QK[:, 0], found.index_QK[:, 0])


def _best_of_each(
    queries: Vectors, reference: Vectors, similarity_V: Doubles, index_V: npt.NDArray[np.int64]
) -> Closest:
    order = np.lexsort((index_V, -similarity_V, queries.owner_V))
    owners, first = np.unique(queries.owner_V[order], return_index=True)
    score, neighbour = np.full(queries.clips, -np.inf), np.full(queries.clips, -1)
    score[owners] = similarity_V[order[first]]
    neighbour[owners] = reference.owner_V[index_V[order[first]]]
    return Closest(score=score, neighbour=neighbour)


def _of_canaries(
    planted: Vectors, canaries: EmbeddingTable, train: EmbeddingTable, reference: Vectors, search: Search
) -> Closest:
    """As `closest`, but a new beat, itself a training clip, is not found in itself."""
    left_out = text(canaries.rows[LEFT_OUT].to_numpy(object)) if LEFT_OUT in canaries.rows else None
    if left_out is None or not left_out.any():
        return closest(planted, reference, search)
    own_V = left_out[planted.owner_V]
    names = text(train.clip_id)[reference.owner_V]
    similarity_V, index_V = np.empty(len(own_V)), np.empty(len(own_V), np.int64)
    # The others through the same search as the synthetic clips: an index that misses neighbours misses theirs, too.
    for some_V, exclude in ((own_V == "", None), (own_V != "", (own_V[own_V != ""], names))):
        if some_V.any():
            found = search.nearest(planted.vectors_VD[some_V], exclude_QN=exclude)
            similarity_V[some_V], index_V[some_V] = found.similarity_QK[:, 0], found.index_QK[:, 0]
    return _best_of_each(planted, reference, similarity_V, index_V)


def combined_p(levels: Sequence[Doubles]) -> Doubles:
    """Bonferroni over levels: min(1, L x the least p). Valid however the levels depend on one another."""
    return np.minimum(1.0, len(levels) * np.min(np.stack(levels), axis=0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """level: whose neighbours are named; with "any" the first. recalls: of the canaries by the same p, if any."""

    level: Level
    p_S: Doubles
    q_S: Doubles
    flagged_S: npt.NDArray[np.bool_]
    flagged: FlaggedPart
    recalls: list[CanaryRecall]


def decide_on(found: Sequence[LevelScores], sets: Sets, settings: AuditSettings) -> Decision:
    """Flag by the level that decides, or by any with Bonferroni's correction: p is then L times the levels' least.

    Either way the part of clips with p <= alpha is at most alpha with nothing memorised, and q <= alpha keeps the
    expected part of false flags at most alpha. The published rule flags what exceeds its threshold at a level.
    """
    deciding = [each for each in found if settings.decide in ("any", each.level)]
    first, alpha = deciding[0], settings.alpha
    p_S = combined_p([each.p_S for each in deciding])
    q_S = q_values(p_S)
    flagged_S = at_most(q_S, alpha)
    if settings.rule == "published":
        flagged_S = np.any([each.synthetic.score > each.threshold for each in deciding], axis=0)
    pairs = [(each.synthetic.score, each.holdout.score) for each in deciding]
    part = flagged_at_any(pairs, text(sets.holdout.patient_id), alpha=alpha, seed=settings.seed)
    recalls = []
    if sets.canaries is not None and first.canaries is not None:
        p_C = combined_p([each.p_C for each in deciding])
        recalls = power(sets.canaries, p_C, first.canaries.neighbour, sets.train, alpha=alpha)
    return Decision(
        level=first.level,
        p_S=p_S,
        q_S=q_S,
        flagged_S=flagged_S,
        flagged=part.model_copy(update={"decided": int(flagged_S.sum())}),
        recalls=recalls,
    )


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
    chosen = table if has.all() else table.select(own)
    found = chosen if head is None else head.project(chosen, level=level)
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
