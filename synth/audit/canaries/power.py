"""What this audit catches and what it misses: recall of the planted canaries at the threshold that it uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from synth.audit.canaries.marks import KIND, SOURCE, STRENGTH
from synth.audit.canaries.transforms import FAITHFUL, REQUIRED_RECALL
from synth.audit.names import text
from synth.audit.result import CanaryRecall
from synth.audit.statistics.calibrate import at_most


def power(
    canaries: EmbeddingTable,
    p_C: npt.NDArray[np.float64],
    neighbour_C: npt.NDArray[np.int64],
    train: EmbeddingTable,
    *,
    alpha: float,
) -> list[CanaryRecall]:
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
            CanaryRecall(
                kind=kind,
                strength=strength,
                planted=len(p),
                recall=_part(at_most(p, alpha)),
                recall_at_a_tenth=_part(at_most(p, alpha / 10)),
                right_patient=float(right[chosen].mean()),
            )
        )
    return rows


def _part(caught: npt.NDArray[np.bool_]) -> Estimate:
    found = scipy.stats.binomtest(int(caught.sum()), len(caught)).proportion_ci(method="wilson")
    return Estimate(value=float(caught.mean()), low=float(found.low), high=float(found.high))


def require_marks(canaries: EmbeddingTable) -> None:
    """Raises EchofmError where a table of canaries does not say what they are."""
    missing = [name for name in (KIND, STRENGTH, SOURCE) if name not in canaries.rows]
    if missing:
        raise EchofmError(f"the table of canaries lacks the columns {', '.join(missing)}; see docs/audit.md")
    strengths = pd.to_numeric(canaries.rows[STRENGTH].astype(object), errors="coerce")
    unmarked = int((canaries.rows[KIND].isna() | strengths.isna()).sum())
    if unmarked:
        raise EchofmError(
            f"{unmarked} canaries have no {KIND} or no number as {STRENGTH}; "
            "say what each is (0 where a kind has no strength)"
        )


def sees_copies(recalls: Sequence[CanaryRecall]) -> bool | None:
    """Whether plain copies are caught often enough for a clean result to mean anything.

    None where exact copies or re-encoded ones were not planted: an exact one alone is caught by any encoder.
    """
    faithful = [each for each in recalls if each.kind in FAITHFUL]
    if any(each.recall.value < REQUIRED_RECALL for each in faithful):
        return False
    kinds = {each.kind for each in faithful}
    return True if "exact" in kinds and len(kinds) > 1 else None
