"""Verification: do two recordings of one patient lie closer than those of two patients, and how often?

Q queries, G gallery entries, D features; W patients as the bootstrap weighs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.nearest import unit_rows

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Setting = Literal["within acquisition", "across acquisitions", "across views"]
SETTINGS: tuple[Setting, ...] = ("within acquisition", "across acquisitions", "across views")
# 2,000 clips make four million pairs; a bootstrap of these takes half a minute, and more change no digit.
MOST_CLIPS = 2000
_HARDEST = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """Features of parts of clips and where they come from. feature_QD: not zero. The others: (Q,) text."""

    feature_QD: npt.NDArray[np.floating]
    clip_Q: npt.NDArray[np.str_]
    patient_Q: npt.NDArray[np.str_]
    view_Q: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.feature_QD)

    def take(self, rows: npt.NDArray) -> Recordings:
        """Some of them."""
        return Recordings(
            feature_QD=self.feature_QD[rows],
            clip_Q=self.clip_Q[rows],
            patient_Q=self.patient_Q[rows],
            view_Q=self.view_Q[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """What one setting showed on held-out patients; intervals redraw patients with all their clips.

    auc: chance that a pair of one patient (genuine) is more alike than a pair of two (impostor). eer: error rate where
    as many genuine pairs are rejected as impostor pairs accepted. rank1: part of the queries whose most similar gallery
    entry is of their patient. mean_average_precision: of the ranked gallery, over queries. genuine, impostor: the
    similarities of all pairs. hardest: the pairs of one patient least and of two patients most alike, as (genuine or
    not, clip, clip, similarity).
    """

    setting: Setting
    auc: Estimate
    eer: Estimate
    rank1: Estimate
    mean_average_precision: Estimate
    patients: int
    genuine: Doubles
    impostor: Doubles
    hardest: tuple[tuple[bool, str, str, float], ...]


def verify(
    queries: Recordings, gallery: Recordings, *, setting: Setting, draws: int = 1000, seed: int = 0
) -> Verification:
    """Compare every query with every gallery entry by cosine.

    within acquisition: genuine pairs are two parts of one clip; queries and gallery hold the one and the other.
    across acquisitions: two clips of one patient in one view; across views: in two.
    Impostor pairs are of two patients, of one view (across views: of two), so that knowing the view gains nothing.
    Raises EchofmError where there is no genuine or no impostor pair.
    """
    genuine_QG, impostor_QG = _pairs(queries, gallery, setting)
    if not genuine_QG.any() or not impostor_QG.any():
        raise EchofmError(f"no pair of clips is {setting} of one patient and none of two; nothing can be verified")
    score_QG = _scores(queries, gallery)
    number = np.unique(np.concatenate([queries.patient_Q, gallery.patient_Q]), return_inverse=True)[1]
    patient_Q, patient_G = number[: len(queries)], number[len(queries) :]
    pairs = _Pairs.of(score_QG, genuine_QG, impostor_QG, patient_Q, patient_G)
    own = genuine_QG.any(1) & impostor_QG.any(1)
    best, precision = _ranked(score_QG[own], genuine_QG[own], impostor_QG[own])
    redrawn = np.empty((draws, 4))
    rng = np.random.default_rng(seed)
    patients = int(number.max()) + 1
    involved = np.unique(patient_Q[genuine_QG.any(1)])
    for draw in range(draws):
        weight_W = np.zeros(patients)
        np.add.at(weight_W, rng.choice(involved, len(involved)), 1.0)
        redrawn[draw] = *pairs.auc_and_eer(weight_W), *_means(weight_W[patient_Q[own]], best, precision)
    weight_W = np.zeros(patients)
    weight_W[involved] = 1.0
    values = [*pairs.auc_and_eer(weight_W), *_means(weight_W[patient_Q[own]], best, precision)]
    low, high = np.nanquantile(redrawn, [0.025, 0.975], axis=0)
    found = [Estimate(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(values, low, high)]
    return Verification(
        setting=setting,
        auc=found[0],
        eer=found[1],
        rank1=found[2],
        mean_average_precision=found[3],
        patients=len(involved),
        genuine=score_QG[genuine_QG],
        impostor=score_QG[impostor_QG],
        hardest=(
            *_extreme(score_QG, score_QG, genuine_QG, queries, gallery, genuine=True),
            *_extreme(-score_QG, score_QG, impostor_QG, queries, gallery, genuine=False),
        ),
    )


def _extreme(
    rank_QG: Doubles, score_QG: Doubles, pairs_QG: Bools, queries: Recordings, gallery: Recordings, *, genuine: bool
) -> Iterator[tuple[bool, str, str, float]]:
    """The pairs of lowest rank, each once."""
    rows, columns = np.nonzero(pairs_QG)
    seen: set[frozenset[str]] = set()
    for place in np.argsort(rank_QG[rows, columns], kind="stable"):
        row, column = rows[place], columns[place]
        one, other = str(queries.clip_Q[row]), str(gallery.clip_Q[column])
        if frozenset((one, other)) not in seen:
            seen.add(frozenset((one, other)))
            yield genuine, one, other, float(score_QG[row, column])
        if len(seen) == _HARDEST:
            return


def verifiable(queries: Recordings, gallery: Recordings, *, setting: Setting) -> bool:
    """Whether there is a genuine and an impostor pair."""
    return all(pairs_QG.any() for pairs_QG in _pairs(queries, gallery, setting))


def area(queries: Recordings, gallery: Recordings, *, setting: Setting) -> float | None:
    """The AUC of `verify` alone, without an interval; None where there is no genuine or no impostor pair."""
    genuine_QG, impostor_QG = _pairs(queries, gallery, setting)
    if not genuine_QG.any() or not impostor_QG.any():
        return None
    score_QG = _scores(queries, gallery)
    genuine, impostor = score_QG[genuine_QG], np.sort(score_QG[impostor_QG])
    below = np.searchsorted(impostor, genuine, "left") + np.searchsorted(impostor, genuine, "right")
    return float(below.mean() / (2 * len(impostor)))


def _scores(queries: Recordings, gallery: Recordings) -> Doubles:
    return unit_rows(queries.feature_QD).astype(np.float64) @ unit_rows(gallery.feature_QD).astype(np.float64).T


def _pairs(queries: Recordings, gallery: Recordings, setting: Setting) -> tuple[Bools, Bools]:
    same_clip = queries.clip_Q[:, None] == gallery.clip_Q[None, :]
    same_patient = queries.patient_Q[:, None] == gallery.patient_Q[None, :]
    same_view = queries.view_Q[:, None] == gallery.view_Q[None, :]
    if setting == "within acquisition":
        return same_clip, ~same_patient & same_view
    view = same_view if setting == "across acquisitions" else ~same_view
    return same_patient & ~same_clip & view, ~same_patient & view


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """All pairs in rising order of score, so that every redraw costs one cumulative sum."""

    genuine_P: Bools
    first_P: npt.NDArray[np.int64]
    second_P: npt.NDArray[np.int64]
    last_of_tie_P: Bools

    @classmethod
    def of(
        cls,
        score_QG: Doubles,
        genuine_QG: Bools,
        impostor_QG: Bools,
        patient_Q: npt.NDArray[np.int64],
        patient_G: npt.NDArray[np.int64],
    ) -> _Pairs:
        query, entry = np.nonzero(genuine_QG | impostor_QG)
        score = score_QG[query, entry]
        order = np.argsort(score, kind="stable")
        score = score[order]
        return cls(
            genuine_P=genuine_QG[query, entry][order],
            first_P=patient_Q[query[order]],
            second_P=patient_G[entry[order]],
            last_of_tie_P=np.append(score[1:] != score[:-1], True),
        )

    def auc_and_eer(self, weight_W: Doubles) -> tuple[float, float]:
        """Area under the ROC, ties counting half, and the equal error rate; NaN where a draw has pairs of one kind."""
        # A genuine pair comes along with its one patient, an impostor pair with both of its own.
        one = weight_W[self.first_P]
        genuine = np.cumsum(np.where(self.genuine_P, one, 0.0))[self.last_of_tie_P]
        impostor = np.cumsum(np.where(self.genuine_P, 0.0, one * weight_W[self.second_P]))[self.last_of_tie_P]
        if genuine[-1] == 0 or impostor[-1] == 0:
            return np.nan, np.nan
        # At a threshold above the k-th score: genuine pairs rejected, impostor pairs rejected.
        rejected = np.concatenate([[0.0], genuine / genuine[-1]])
        refused = np.concatenate([[0.0], impostor / impostor[-1]])
        auc = float(((refused[1:] + refused[:-1]) / 2 * np.diff(rejected)).sum())
        gap = rejected - (1 - refused)
        after = int(np.argmax(gap >= 0))
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return auc, float(rejected[after - 1] + share * (rejected[after] - rejected[after - 1]))


def _ranked(score_QG: Doubles, genuine_QG: Bools, impostor_QG: Bools) -> tuple[Doubles, Doubles]:
    """Of each query: whether the best is genuine, and the average precision; an impostor wins a tie."""
    best, precision = np.empty(len(score_QG)), np.empty(len(score_QG))
    for row, (score, genuine, impostor) in enumerate(zip(score_QG, genuine_QG, impostor_QG)):
        ours, theirs = np.sort(score[genuine])[::-1], np.sort(score[impostor])
        above = len(theirs) - np.searchsorted(theirs, ours, side="left")
        place = np.arange(1, len(ours) + 1)
        best[row] = above[0] == 0
        precision[row] = (place / (place + above)).mean()
    return best, precision


def _means(weight_Q: Doubles, best: Doubles, precision: Doubles) -> tuple[float, float]:
    total = weight_Q.sum()
    return (float(weight_Q @ best / total), float(weight_Q @ precision / total)) if total else (np.nan, np.nan)


def fewer_patients(patient_N: npt.NDArray[np.str_], *, most: int = MOST_CLIPS, seed: int = 0) -> Bools:
    """(N,) the clips of as many drawn patients as have at most `most` clips in all."""
    names, number, clips = np.unique(patient_N, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = order[np.cumsum(clips[order]) <= most]
    return np.isin(number, kept) if len(kept) else np.ones(len(patient_N), bool)
