"""Kernel distance of two sets of features: the unbiased squared MMD, in the form of the KID.

Shapes: N, M clips of the two sets, D features, P, Q patients, R draws of an interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, Names, half_samples

Floats = npt.NDArray[np.float64]
_ROWS_AT_ONCE = 2048


def kernel_distance(
    first_ND: npt.ArrayLike,
    second_MD: npt.ArrayLike,
    *,
    first_patients: Names | None = None,
    second_patients: Names | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Squared maximum mean discrepancy under the kernel (x . y / D + 1)^3, with its interval.

    Unbiased (https://arxiv.org/abs/1801.01401, eq. 4), so 0 on average, and negative half of the time, where both sets
    are drawn alike. Pairs within a set are of different patients: clips of one patient are no two samples of the
    population. Interval: `echofm.intervals.half_samples`, of patients.

    first_patients, second_patients: one name a clip; None: each clip is its own patient. Patients with more clips count
    more. Raises ValueError where a set has too few patients.
    """
    sets = [(second_MD, second_patients)]
    return kernel_distances(first_ND, sets, patients=first_patients, draws=draws, seed=seed)[0]


def kernel_distances(
    reference_ND: npt.ArrayLike,
    sets: Sequence[tuple[npt.ArrayLike, Names | None]],
    *,
    patients: Names | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Estimate]:
    """`kernel_distance` of a reference to each of several sets, then by how much each later set is further than the
    first, all under the same half samples, so that the differences are paired.

    sets: (features, patients) each. patients: of the reference.
    """
    rows = [np.asarray(each, np.float64) for each in (reference_ND, *(features for features, _ in sets))]
    numbers = [_numbers(each, len(row)) for each, row in zip((patients, *(names for _, names in sets)), rows)]
    clips = [np.bincount(each) for each in numbers]
    within = [_sums(row, row, number, number) for row, number in zip(rows, numbers)]
    between = [_sums(rows[0], row, numbers[0], number) for row, number in zip(rows[1:], numbers[1:])]

    def distances(*chosen: Floats) -> Floats:
        alike = [_mean_apart(*each) for each in zip(within, clips, chosen)]
        found = []
        for index, sums_PQ in enumerate(between, start=1):
            pairs_R = (chosen[0] @ clips[0]) * (chosen[index] @ clips[index])
            apart_R = np.einsum("rp,rp->r", chosen[0], chosen[index] @ sums_PQ.T) / pairs_R
            found.append(alike[0] + alike[index] - 2 * apart_R)
        return np.stack([*found, *(each - found[0] for each in found[1:])], axis=1)

    return half_samples(distances, [len(each) for each in clips], draws=draws, seed=seed, level=level)


def _numbers(patients: Names | None, clips: int) -> npt.NDArray[np.int64]:
    return np.arange(clips) if patients is None else np.unique(patients, return_inverse=True)[1]


def _sums(first_ND: Floats, second_MD: Floats, first_N: npt.NDArray, second_M: npt.NDArray) -> Floats:
    """(P, Q) kernel values summed over the clips of two patients; rows block by block."""
    sums_PQ = np.zeros((first_N.max() + 1, second_M.max() + 1))
    starts = np.flatnonzero(np.diff(np.sort(second_M), prepend=-1))
    by_patient = second_MD[np.argsort(second_M, kind="stable")]
    for begin in range(0, len(first_ND), _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        kernel = (first_ND[rows] @ by_patient.T / first_ND.shape[1] + 1) ** 3
        np.add.at(sums_PQ, first_N[rows], np.add.reduceat(kernel, starts, axis=1))
    return sums_PQ


def _mean_apart(sums_PP: Floats, clips_P: npt.NDArray[np.int64], chosen_RP: Floats) -> Floats:
    """(R,) mean kernel value over the pairs of different chosen patients of one set."""
    total_R = np.einsum("rp,rp->r", chosen_RP @ sums_PP, chosen_RP) - chosen_RP @ np.diag(sums_PP)
    pairs_R = (chosen_RP @ clips_P) ** 2 - chosen_RP @ clips_P**2
    return total_R / pairs_R
