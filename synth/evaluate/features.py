"""The vectors in which sets are compared: of clips, of time points, and of how much each place moves.

Shapes: N clips, V vectors, D features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable

Floats = npt.NDArray[np.float64]
Level = Literal["clip", "motion", "frame"]
LEVELS: tuple[Level, ...] = ("clip", "motion", "frame")
_FRAMES_PER_CLIP = 4
_LEAST_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Vectors:
    """vectors_VD, and of each its patient: that of its clip, or in a synthetic set the clip itself."""

    vectors_VD: Floats
    patients: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.vectors_VD)

    def scaled(self, mean_D: Floats, std_D: Floats) -> Vectors:
        """asinh of these less a mean, over a spread."""
        return Vectors(vectors_VD=np.arcsinh((self.vectors_VD - mean_D) / std_D), patients=self.patients)

    def some(self, count: int, rng: np.random.Generator) -> Vectors:
        """So many of them, drawn at random; all where there are no more."""
        chosen = np.sort(rng.permutation(len(self))[:count])
        return Vectors(vectors_VD=self.vectors_VD[chosen], patients=self.patients[chosen])

    @property
    def patient_numbers(self) -> npt.NDArray[np.int64]:
        """(V,) 0, 1, ..., in the order of the patients' names."""
        return np.unique(self.patients, return_inverse=True)[1]


def vectors_of(table: EmbeddingTable, level: Level, *, synthetic: bool = False) -> Vectors | None:
    """What a table holds of a level; None: nothing. synthetic: no patients are known, each clip is its own.

    frame: up to four time points a clip, evenly spread.
    """
    names = (table.clip_id if synthetic else table.patient_id).astype(str)
    if level == "clip":
        return Vectors(vectors_VD=table.video_ND.astype(np.float64), patients=names)
    if level == "motion":
        motion = table.motion_NRCD
        return (
            None if motion is None else Vectors(vectors_VD=motion.reshape(len(table), -1).astype(float), patients=names)
        )
    if table.phase is None:
        return None
    starts = table.phase.start_N1
    chosen = [
        np.unique(np.linspace(first, last - 1, _FRAMES_PER_CLIP).round().astype(int))
        for first, last in itertools.pairwise(starts)
        if last > first
    ]
    owner = np.repeat(np.flatnonzero(np.diff(starts) > 0), [len(each) for each in chosen])
    return Vectors(vectors_VD=table.phase.feature_PD[np.concatenate(chosen)].astype(np.float64), patients=names[owner])


def standardised(train: Vectors, others: Sequence[Vectors]) -> list[Vectors]:
    """Training vectors and others, each feature asinh((x - m) / s), m and s its mean and spread in training.

    s is at least a tenth of the features' usual spread, and asinh grows as a logarithm: a feature that hardly varies in
    training, or a single clip far out, would else make up the whole distance (false alarms in a fifth of the draws of a
    random network's features, where 1 in 40 is meant).
    """
    mean_D, std_D = train.vectors_VD.mean(0), train.vectors_VD.std(0)
    usual = np.sqrt(np.square(std_D).mean())
    return [each.scaled(mean_D, np.maximum(std_D, _LEAST_SPREAD * usual + 1e-12)) for each in (train, *others)]
