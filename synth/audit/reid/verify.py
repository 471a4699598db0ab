"""Verification: do two recordings of one patient lie closer than those of two patients, and how often?

Q queries, G gallery entries, D features; W patients as the bootstrap weighs them in V draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.nearest import unit_rows

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Setting = Literal["within acquisition", "across acquisitions", "across views"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)
# 2,000 clips make four million pairs; more change no digit.
MOST_CLIPS = 2000
# Weights of pairs of patients, held for so many draws.
_DRAWS_AT_ONCE = 64
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
    own = genuine_QG.any(1) & impostor_QG.any(1)
    best, precision = _ranked(score_QG[own], genuine_QG[own], impostor_QG[own])
    patients = int(number.max()) + 1
    pairs = _Pairs.of(score_QG, genuine_QG, impostor_QG, patient_Q, patient_G, patients)
    involved = np.unique(patient_Q[genuine_QG.any(1)])
    rng = np.random.default_rng(seed)
    weight_VW = np.zeros((1 + draws, patients))
    # First all patients as they are, then the redraws.
    weight_VW[0, involved] = 1.0
    for weight_W in weight_VW[1:]:
        np.add.at(weight_W, rng.choice(involved, len(involved)), 1.0)
    figures_VM = np.concatenate(
        [
            np.column_stack([pairs.auc_and_eer(some_VW), _means(some_VW[:, patient_Q[own]], best, precision)])
            for some_VW in np.array_split(weight_VW, math.ceil(len(weight_VW) / _DRAWS_AT_ONCE))
        ]
    )
    low, high = np.nanquantile(figures_VM[1:], [0.025, 0.975], axis=0)
    values = figures_VM[0]
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
    for position in np.argsort(rank_QG[rows, columns], kind="stable"):
        row, column = rows[position], columns[position]
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
    """Where the curves of a redraw can bend: at K scores of genuine pairs, and between them.

    genuine_KW: genuine pairs of each patient at each score. below_KB, tied_KB: impostor pairs of each pair of patients
    between a score and the one before, and at it; a last row holds those above all scores. first_B, second_B: the
    pairs of patients.
    """

    genuine_KW: sparse.csr_array
    below_KB: sparse.csr_array
    tied_KB: sparse.csr_array
    first_B: npt.NDArray[np.int64]
    second_B: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        score_QG: Doubles,
        genuine_QG: Bools,
        impostor_QG: Bools,
        patient_Q: npt.NDArray[np.int64],
        patient_G: npt.NDArray[np.int64],
        patients: int,
    ) -> _Pairs:
        level_K, position = np.unique(score_QG[genuine_QG], return_inverse=True)
        rows = np.broadcast_to(patient_Q[:, None], genuine_QG.shape)[genuine_QG]
        query, entry = np.nonzero(impostor_QG)
        score = score_QG[query, entry]
        one, other = patient_Q[query], patient_G[entry]
        pair_B, column = np.unique(np.minimum(one, other) * patients + np.maximum(one, other), return_inverse=True)
        left = np.searchsorted(level_K, score, "left")
        tied = left < np.searchsorted(level_K, score, "right")
        shape = (len(level_K) + 1, len(pair_B))
        return cls(
            genuine_KW=_counts(position, rows, (len(level_K), patients)),
            below_KB=_counts(left[~tied], column[~tied], shape),
            tied_KB=_counts(left[tied], column[tied], shape),
            first_B=pair_B // patients,
            second_B=pair_B % patients,
        )

    def auc_and_eer(self, weight_VW: Doubles) -> Doubles:
        """(V, 2) of V draws: area under the ROC, ties counting half, and the equal error rate.

        NaN where a draw has pairs of one kind alone.
        """
        # A genuine pair comes along with its one patient, an impostor pair with both of its own.
        genuine_KV = self.genuine_KW @ weight_VW.T
        pair_BV = (weight_VW[:, self.first_B] * weight_VW[:, self.second_B]).T
        below_KV, tied_KV = self.below_KB @ pair_BV, self.tied_KB @ pair_BV
        found = np.full((len(weight_VW), 2), np.nan)
        for draw, (genuine, below, tied) in enumerate(zip(genuine_KV.T, below_KV.T, tied_KV.T)):
            if genuine.any() and below.any() | tied.any():
                found[draw] = _auc_and_eer(genuine, below, tied)
        return found


def _counts(row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.coo_array((np.ones(len(row)), (row, column)), shape).tocsr()


def _auc_and_eer(genuine_K: Doubles, below_K1: Doubles, tied_K1: Doubles) -> tuple[float, float]:
    """Of weights at each genuine score, and of impostors below and at it; at the end, of impostors above them all."""
    # The curve at its corners, in rising order of the threshold: past what lies between two scores, past each score.
    steps = np.zeros((2, 2 * len(below_K1)))
    steps[0, 1:-1:2] = genuine_K
    steps[1, 0::2], steps[1, 1::2] = below_K1, tied_K1
    curve = np.concatenate([np.zeros((2, 1)), np.cumsum(steps, 1)], 1)
    # Genuine pairs rejected, impostor pairs rejected.
    rejected, refused = curve / curve[:, -1:]
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
        position = np.arange(1, len(ours) + 1)
        best[row] = above[0] == 0
        precision[row] = (position / (position + above)).mean()
    return best, precision


def _means(weight_VQ: Doubles, best: Doubles, precision: Doubles) -> Doubles:
    """(V, 2) of V draws: both, over queries; NaN where a draw has no query."""
    total_V1 = weight_VQ.sum(1, keepdims=True)
    return weight_VQ @ np.stack([best, precision], 1) / np.where(total_V1 > 0, total_V1, np.nan)


def fewer_patients(patient_N: npt.NDArray[np.str_], *, most: int = MOST_CLIPS, seed: int = 0) -> Bools:
    """(N,) the clips of as many drawn patients as have at most `most` clips in all."""
    names, number, clips = np.unique(patient_N, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = order[np.cumsum(clips[order]) <= most]
    return np.isin(number, kept) if len(kept) else np.ones(len(patient_N), bool)
