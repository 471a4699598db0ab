"""Precision, recall, density and coverage of a synthetic set: what its nearest neighbours among real clips tell.

Shapes: N real clips, M synthetic ones, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

Floats = npt.NDArray[np.float64]
NEIGHBOURS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """Euclidean distances of all pairs; `of` finds the four figures of any part of the clips."""

    real_NN: Floats
    synthetic_MM: Floats
    between_NM: Floats

    @classmethod
    def between(cls, real_ND: npt.ArrayLike, synthetic_MD: npt.ArrayLike) -> Distances:
        """Of all pairs of clips."""
        real, synthetic = np.asarray(real_ND, np.float64), np.asarray(synthetic_MD, np.float64)
        within = [cdist(each, each) for each in (real, synthetic)]
        return cls(real_NN=within[0], synthetic_MM=within[1], between_NM=cdist(real, synthetic))

    def of(self, real: npt.NDArray, synthetic: npt.NDArray, *, neighbours: int = NEIGHBOURS) -> Floats:
        """(4,) precision, recall, density and coverage of the clips chosen (row numbers).

        precision, recall: share of synthetic clips inside the ball of a real clip that reaches its k-th neighbour, and
        the reverse (https://arxiv.org/abs/1904.06991). density: real balls that hold a synthetic clip, over k; may pass
        1. coverage: share of real balls that hold one (https://arxiv.org/abs/2002.09797). NaN where a set has k clips
        or fewer.
        """
        if min(len(real), len(synthetic)) <= neighbours:
            return np.full(4, np.nan)
        between = self.between_NM[np.ix_(real, synthetic)]
        real_radius_N = _radius(self.real_NN[np.ix_(real, real)], neighbours)
        synthetic_radius_M = _radius(self.synthetic_MM[np.ix_(synthetic, synthetic)], neighbours)
        inside = between <= real_radius_N[:, None]
        recalled_N = (between <= synthetic_radius_M).any(1)
        density = inside.sum(0).mean() / neighbours
        return np.array([inside.any(0).mean(), recalled_N.mean(), density, inside.any(1).mean()])


def _radius(distance_NN: Floats, neighbours: int) -> Floats:
    """(N,) distance to the k-th nearest other row; a row's distance to itself is the smallest."""
    return np.partition(distance_NN, neighbours, axis=1)[:, neighbours]
