"""Measure: figures of predictions on test clips, with intervals over redrawn patients, by level and by subgroup.

Shapes: N test clips, S seeds, J redrawn test sets; predictions are (N, S) or (N, S, K).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, estimate, patient_weights, rows_by_group
from probe.metrics import Metric

Array = npt.NDArray[np.float64]
# A metric's name and the label that it is of ("" for all).
Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawn:
    """Figures of one method: value on the test clips, values_J on redrawn ones, the mean over seeds of each.

    patients: how many were redrawn.
    """

    value: float
    values_J: Array
    patients: int

    @property
    def estimate(self) -> Estimate:
        return estimate(self.value, self.values_J, patients=self.patients)

    def minus(self, other: Redrawn) -> Estimate:
        """The paired difference: both methods under the same draws."""
        return estimate(self.value - other.value, self.values_J - other.values_J, patients=self.patients)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What predictions are held against: truth by row, whose rows they are, and which draws.

    Every method measured on one sample meets the same redrawn patients.
    """

    truth_N: npt.NDArray
    patients_N: npt.NDArray[np.str_]
    draws: int
    seed: int

    def measure(
        self, metrics: Mapping[Key, Metric], said_NS: npt.NDArray, *, among: npt.NDArray[np.bool_] | None = None
    ) -> dict[Key, Redrawn]:
        """Every metric. among: only these rows count; patients are still redrawn from all."""
        rows = np.arange(len(self.truth_N)) if among is None else np.flatnonzero(among)
        truth, said = self.truth_N[rows], said_NS[rows]

        def all_seeds(metric: Metric, weights_WN: Array) -> Array:
            found = [metric.redrawn(truth, said[:, number], weights_WN) for number in range(said.shape[1])]
            return np.mean(found, axis=0)

        blocks = [
            {key: all_seeds(metric, weights_WN[:, rows]) for key, metric in metrics.items()}
            for weights_WN in patient_weights(self.patients_N, draws=self.draws, seed=self.seed)
        ]
        once = np.ones((1, len(rows)))
        patients = len(np.unique(self.patients_N[rows]))
        return {
            key: Redrawn(
                value=float(all_seeds(metric, once)[0]),
                values_J=np.concatenate([block[key] for block in blocks]),
                patients=patients,
            )
            for key, metric in metrics.items()
        }

    def averaged(self, groups_N: npt.NDArray[np.str_], said_NS: npt.NDArray) -> tuple[Sample, npt.NDArray] | None:
        """The sample of which each group of clips (a patient's, a study's) is one row, and its mean predictions.

        None where clips of a group differ in their truth or their patient, or each group is one clip.
        """
        rows_of = rows_by_group(groups_N)
        first = [rows[0] for rows in rows_of]
        alike = all(_alike(self.truth_N[rows]) and _alike(self.patients_N[rows]) for rows in rows_of)
        if not alike or len(rows_of) == len(groups_N):
            return None
        whole = replace(self, truth_N=self.truth_N[first], patients_N=self.patients_N[first])
        return whole, np.stack([said_NS[rows].mean(0) for rows in rows_of])


def _alike(values_N: npt.NDArray) -> bool:
    every = np.broadcast_to(values_N[0], values_N.shape)
    return np.array_equal(values_N, every, equal_nan=values_N.dtype.kind == "f")
