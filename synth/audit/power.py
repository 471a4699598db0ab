"""What this audit catches and what it misses: recall of the planted canaries at the threshold that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from echofm.intervals import Interval
from echofm.nearest import Metric, nearest
from synth.audit.calibrate import conformal_p
from synth.audit.canaries import FAITHFUL, REQUIRED_RECALL


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """Embedded canaries of one kind and strength.

    features_CD: float. source_C: ids of the training clips that they copy. left_out_C: for each, the training clip that
    must not count as its neighbour ("" for none): a new beat is itself a clip of the training set.
    """

    kind: str
    strength: float
    features_CD: npt.NDArray[np.floating]
    source_C: npt.NDArray[np.str_]
    left_out_C: npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """recall: part of the canaries with p <= alpha, Wilson interval. right_patient: part whose nearest training clip
    belongs to the patient copied."""

    kind: str
    strength: float
    planted: int
    recall: Interval
    right_patient: float


def power(
    planted: Sequence[Planted],
    train_ND: npt.NDArray,
    *,
    clip_id_N: npt.NDArray[np.str_],
    patient_N: npt.NDArray[np.str_],
    null_H: npt.ArrayLike,
    null_patient_H: npt.ArrayLike,
    alpha: float,
    metric: Metric,
) -> list[Recall]:
    """Recall of each kind and strength against the same null and training set as the synthetic clips."""
    patient_of = dict(zip(clip_id_N.tolist(), patient_N.tolist()))
    rows = []
    for each in planted:
        found = nearest(each.features_CD, train_ND, metric=metric, exclude_QN=(each.left_out_C, clip_id_N))
        caught = conformal_p(found.similarity_QK[:, 0], null_H, null_patient_H) <= alpha
        interval = scipy.stats.binomtest(int(caught.sum()), len(caught)).proportion_ci(method="wilson")
        copied = np.array([patient_of[source] for source in each.source_C.tolist()])
        rows.append(
            Recall(
                kind=each.kind,
                strength=each.strength,
                planted=len(caught),
                recall=Interval(value=float(caught.mean()), low=float(interval.low), high=float(interval.high)),
                right_patient=float((patient_N[found.index_QK[:, 0]] == copied).mean()),
            )
        )
    return rows


def sees_copies(recalls: Sequence[Recall]) -> bool | None:
    """Whether every faithful copy is caught often enough for a clean result to mean anything; None without plants."""
    faithful = [each.recall.value for each in recalls if each.kind in FAITHFUL]
    return min(faithful) >= REQUIRED_RECALL if faithful else None
