"""What this audit catches and what it misses: recall of the planted canaries at the threshold that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Interval
from synth.audit.calibrate import at_most
from synth.audit.canaries import FAITHFUL, REQUIRED_RECALL
from synth.audit.marks import KIND, SOURCE, STRENGTH
from synth.audit.names import text


@dataclass(frozen=True, kw_only=True)
class Recall:
    """recall: part of the canaries with p <= alpha, Wilson interval.

    recall_at_a_tenth: with p <= alpha / 10. Benjamini-Hochberg flags these where a tenth of a set has such a p; copies
    that make up a tenth, and of which fewer are so close, need luck.
    right_patient: part whose nearest training clip belongs to the patient copied.
    """

    kind: str
    strength: float
    planted: int
    recall: Interval
    recall_at_a_tenth: Interval
    right_patient: float


def power(
    canaries: EmbeddingTable,
    p_C: npt.NDArray[np.float64],
    neighbour_C: npt.NDArray[np.int64],
    train: EmbeddingTable,
    *,
    alpha: float,
) -> list[Recall]:
    """Recall of each kind and strength, in the order in which they were planted.

    p_C: of each canary, against the null of the synthetic clips. neighbour_C: its nearest training row, -1 for none.
    Raises EchofmError where the table does not say what was planted, or names clips that the training set lacks.
    """
    require_marks(canaries)
    patient_of = dict(zip(text(train.clip_id).tolist(), text(train.patient_id).tolist()))
    sources = text(canaries.rows[SOURCE].to_numpy(object))
    unknown = sum(each not in patient_of for each in sources.tolist())
    if unknown:
        raise EchofmError(f"{unknown} canaries copy clips that are not in the training set; plant them again")
    copied = np.array([patient_of[each] for each in sources.tolist()])
    right = (text(train.patient_id)[neighbour_C] == copied) & (neighbour_C >= 0)
    kinds, strengths = text(canaries.rows[KIND].to_numpy(object)), canaries.rows[STRENGTH].to_numpy(float)
    rows = []
    for kind, strength in dict.fromkeys(zip(kinds.tolist(), strengths.tolist())):
        chosen = (kinds == kind) & (strengths == strength)
        p = p_C[chosen]
        rows.append(
            Recall(
                kind=kind,
                strength=strength,
                planted=len(p),
                recall=_part(at_most(p, alpha)),
                recall_at_a_tenth=_part(at_most(p, alpha / 10)),
                right_patient=float(right[chosen].mean()),
            )
        )
    return rows


def _part(caught: npt.NDArray[np.bool_]) -> Interval:
    found = scipy.stats.binomtest(int(caught.sum()), len(caught)).proportion_ci(method="wilson")
    return Interval(value=float(caught.mean()), low=float(found.low), high=float(found.high))


def require_marks(canaries: EmbeddingTable) -> None:
    """Raises EchofmError where a table of canaries does not say what they are."""
    missing = [name for name in (KIND, STRENGTH, SOURCE) if name not in canaries.rows]
    if missing:
        raise EchofmError(f"the table of canaries lacks the columns {', '.join(missing)}; see docs/audit.md")
    strengths = pd.to_numeric(canaries.rows[STRENGTH].astype(object), errors="coerce")
    unsaid = int((canaries.rows[KIND].isna() | strengths.isna()).sum())
    if unsaid:
        raise EchofmError(
            f"{unsaid} canaries have no {KIND} or no number as {STRENGTH}; "
            "say what each is (0 where a kind has no strength)"
        )


def sees_copies(recalls: Sequence[Recall]) -> bool | None:
    """Whether plain copies are caught often enough for a clean result to mean anything.

    None where exact copies or re-encoded ones were not planted: an exact one alone is caught by any encoder.
    """
    faithful = [each for each in recalls if each.kind in FAITHFUL]
    if any(each.recall.value < REQUIRED_RECALL for each in faithful):
        return False
    kinds = {each.kind for each in faithful}
    return True if "exact" in kinds and len(kinds) > 1 else None
