"""Attacks by distance: is a synthetic clip closer to the training set than to new patients, and to one of its patients?

Shapes: N training clips, S synthetic clips, Q queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from echofm.errors import EchofmError
from echofm.intervals import Estimate, rows_by_group
from echofm.nearest import Metric, Neighbours, nearest

Doubles = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Embeddings of real clips and their patients. features_ND: float; patient_N, clip_N: hashed names.

    Clips are drawn by clip_N, so that the order of the rows changes no draw; without it by that order.
    """

    features_ND: npt.NDArray[np.floating]
    patient_N: Names
    clip_N: Names | None = None

    def __post_init__(self) -> None:
        if len(self.features_ND) != len(self.patient_N):
            raise EchofmError(f"{len(self.features_ND)} embeddings, but {len(self.patient_N)} patients")

    def rows_of_patients(self) -> list[npt.NDArray[np.int64]]:
        """Each patient's rows, patients in the order of their names and clips in that of theirs."""
        if self.clip_N is None:
            return rows_by_group(self.patient_N)
        order = np.argsort(self.clip_N, kind="stable")
        return [order[rows] for rows in rows_by_group(self.patient_N[order])]


def closer_to_train(
    train: Clips, holdout: Clips, synthetic_SD: npt.NDArray, *, metric: Metric, draws: int = 20, seed: int = 0
) -> Estimate:
    """Part of the synthetic clips that lie closer to a training than to a held-out clip (distance to closest record).

    With nothing memorised it is one half, provided that both sides offer equally many candidates: as many patients are
    drawn from each side as the smaller one has, one clip of each, `draws` times.

    With nothing memorised the patient nearest to a clip is of either set by chance, and so for all clips that this
    patient is nearest to. The interval is therefore Wilson's for (sum w)^2 / sum w^2 independent clips, where w are the
    clips that each real patient is nearest to (Kish's effective sample size), the mean over the draws.
    """
    rng = np.random.default_rng(seed)
    sides = [(each, each.rows_of_patients()) for each in (train, holdout)]
    patients = min(len(own) for _, own in sides)
    drawn = [_by_draw(synthetic_SD, *side, patients, metric=metric, draws=draws, rng=rng) for side in sides]
    numbers = [np.unique(side.patient_N, return_inverse=True)[1] for side in (train, holdout)]
    shares, sizes = [], []
    for (to_train, train_row), (to_holdout, holdout_row) in zip(*drawn):
        closer = (to_train > to_holdout) + 0.5 * (to_train == to_holdout)
        # Below 0 the held-out patients.
        patient = np.where(to_train >= to_holdout, numbers[0][train_row], -1 - numbers[1][holdout_row])
        nearest_to = np.unique(patient, return_counts=True)[1].astype(np.float64)
        shares.append(closer.mean())
        sizes.append(nearest_to.sum() ** 2 / (nearest_to**2).sum())
    return _wilson(float(np.mean(shares)), float(np.mean(sizes)))


def _wilson(part: float, size: float) -> Estimate:
    """Wilson's 95 % interval of a part of `size` independent ones, which need not be a whole number."""
    z = float(scipy.stats.norm.ppf(0.975))
    middle = (part + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(part * (1 - part) / size + z**2 / (4 * size**2))
    return Estimate(value=part, low=max(0.0, middle - half), high=min(1.0, middle + half))


# Where more of the clips than this are drawn, the nearest drawn one is among the nearest _KEPT of all.
_LARGE_PART, _KEPT = 0.25, 64


def _by_draw(
    queries_SD: npt.NDArray,
    side: Clips,
    clips_of: list[npt.NDArray[np.int64]],
    patients: int,
    *,
    metric: Metric,
    draws: int,
    rng: np.random.Generator,
) -> list[tuple[Doubles, npt.NDArray[np.int64]]]:
    """(S,) similarity to the nearest of one drawn clip of each of so many drawn patients, and its row, each draw."""
    clips = len(side.patient_N)
    kept = min(_KEPT if patients < clips else 1, clips)
    found = nearest(queries_SD, side.features_ND, k=kept, metric=metric) if patients > _LARGE_PART * clips else None
    result = []
    for _ in range(draws):
        some = rng.permutation(len(clips_of))[:patients]
        chosen = np.sort([rng.choice(clips_of[patient]) for patient in some])
        if found is None:
            own = nearest(queries_SD, side.features_ND[chosen], metric=metric)
            result.append((own.similarity_QK[:, 0], chosen[own.index_QK[:, 0]]))
            continue
        is_in = np.zeros(clips, bool)
        is_in[chosen] = True
        hit = is_in[found.index_QK]
        first = np.arange(len(hit)), hit.argmax(1)
        similarity, row = found.similarity_QK[first], found.index_QK[first]
        missed = ~hit.any(1)
        if missed.any():
            rest = nearest(queries_SD[missed], side.features_ND[chosen], metric=metric)
            similarity[missed], row[missed] = rest.similarity_QK[:, 0], chosen[rest.index_QK[:, 0]]
        result.append((similarity, row))
    return result


def neighbours_needed(train: Clips) -> int:
    """So many nearest clips of a query hold its nearest training patient and one clip of another.

    Raises EchofmError for fewer than two patients.
    """
    sizes = np.unique(train.patient_N, return_counts=True)[1]
    if len(sizes) < 2:
        raise EchofmError("a distance ratio needs two training patients or more")
    return int(sizes.max()) + 1


def distance_ratio(
    queries_QD: npt.NDArray, train: Clips, *, metric: Metric, found: Neighbours | None = None
) -> Doubles:
    """(Q,) distance to the nearest training patient over that to the nearest other one, in [0, 1]; 0 is a copy.

    The nearest-neighbour distance ratio with patients for records: a second clip of the same patient does not hide
    the first. Distance is the chord, sqrt(2 - 2 similarity). found: the nearest ones, if known;
    where they are all one patient's, others are sought.
    Raises EchofmError for fewer than two patients.
    """
    found = found or nearest(queries_QD, train.features_ND, k=neighbours_needed(train), metric=metric)
    distance = np.sqrt(np.maximum(0.0, 2 - 2 * found.similarity_QK))
    patients = train.patient_N[found.index_QK]
    other = patients != patients[:, :1]
    second = distance[np.arange(len(distance)), other.argmax(1)]
    alone = ~other.any(1)
    if alone.any():
        # One patient fills what was kept.
        rest = nearest(
            queries_QD[alone],
            train.features_ND,
            metric=metric,
            exclude_QN=(patients[alone, 0], train.patient_N),
        )
        second[alone] = np.sqrt(np.maximum(0.0, 2 - 2 * rest.similarity_QK[:, 0]))
    return np.divide(distance[:, 0], second, out=np.ones(len(second)), where=second > 0)


def inauthentic(
    queries_QD: npt.NDArray, train: Clips, *, metric: Metric, found: Neighbours | None = None
) -> npt.NDArray[np.bool_]:
    """(Q,) True where a query is nearer to its nearest training clip than any other patient's clip is to that.

    Authenticity (Alaa 2022, arXiv 2102.08921, section 4.2), other clips of the same patient left out.
    """
    found = found or nearest(queries_QD, train.features_ND, metric=metric)
    hit, position = np.unique(found.index_QK[:, 0], return_inverse=True)
    others = nearest(
        train.features_ND[hit], train.features_ND, metric=metric, exclude_QN=(train.patient_N[hit], train.patient_N)
    )
    return found.similarity_QK[:, 0] > others.similarity_QK[position, 0]
