"""Frechet distance of two sets of features, each taken for a Gaussian: the FID and FVD form.

Shapes: N, M clips of the two sets, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh


def frechet_distance(first_ND: npt.ArrayLike, second_MD: npt.ArrayLike) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), https://arxiv.org/abs/1706.08500 eq. 6.

    Biased upwards for few clips (https://arxiv.org/abs/1911.07023): compare sets of one size, beside the distance of
    two real sets. The root's trace is taken from the symmetric C1^1/2 C2 C1^1/2, so it is real.
    """
    first, second = np.asarray(first_ND, np.float64), np.asarray(second_MD, np.float64)
    covariance = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (first, second)]
    values, vectors = eigh(covariance[0])
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(eigh(root @ covariance[1] @ root, eigvals_only=True).clip(0)).sum()
    shift = np.square(first.mean(0) - second.mean(0)).sum()
    return float(shift + np.trace(covariance[0]) + np.trace(covariance[1]) - 2 * cross)
