"""Vendi score: how many different clips a set is worth."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt


def gaussian_kernel(distance_NN: npt.ArrayLike, *, bandwidth: float) -> npt.NDArray[np.float64]:
    """exp(-d^2 / 2 b^2) of distances: similarities in [0, 1], 1 of a clip with itself."""
    return np.exp(-np.square(np.asarray(distance_NN, np.float64)) / (2 * bandwidth**2))


def vendi_score(kernel_NN: npt.ArrayLike, *, order: Literal[1, 2] = 1) -> float:
    """Exponential of the entropy of the eigenvalues of K / N, in [1, N], https://arxiv.org/abs/2210.02410, eq. 2.

    kernel_NN: similarities, symmetric, 1 on the diagonal. order: 1 Shannon's entropy; 2 Renyi's
    (https://arxiv.org/abs/2310.12952), N^2 / sum K^2, which needs no eigenvalues.
    """
    kernel = np.asarray(kernel_NN, np.float64)
    assert np.allclose(np.diag(kernel), 1), "a clip is like itself"
    if order == 2:
        return float(len(kernel) ** 2 / np.square(kernel).sum())
    share = np.linalg.eigvalsh(kernel / len(kernel))
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))
