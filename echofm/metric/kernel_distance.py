"""Kernel distance of two sets of features: the unbiased squared MMD, in the form of the KID.

Shapes: N, M clips of the two sets, D features, P, Q patients, R draws of an interval.
"""

from __future__ import annotations

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
    more. Raises ValueError where a set has fewer than 4 patients.
    """
    first, second = np.asarray(first_ND, np.float64), np.asarray(second_MD, np.float64)
    first_P, second_Q = _numbers(first_patients, len(first)), _numbers(second_patients, len(second))
    clips = np.bincount(first_P), np.bincount(second_Q)
    within = _sums(first, first, first_P, first_P), _sums(second, second, second_Q, second_Q)
    between_PQ = _sums(first, second, first_P, second_Q)

    def distance(first_RP: Floats, second_RQ: Floats) -> Floats:
        pairs_R = (first_RP @ clips[0]) * (second_RQ @ clips[1])
        apart_R = np.einsum("rp,rp->r", first_RP, second_RQ @ between_PQ.T) / pairs_R
        alike_R = _mean_apart(within[0], clips[0], first_RP) + _mean_apart(within[1], clips[1], second_RQ)
        return (alike_R - 2 * apart_R)[:, None]

    return half_samples(distance, [len(each) for each in clips], draws=draws, seed=seed)[0]


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
