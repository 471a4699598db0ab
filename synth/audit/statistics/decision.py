"""The decision: which clips are flagged, by one level or by any of several.

S synthetic clips, C canaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate
from synth.audit.result import FlaggedPart
from synth.audit.settings import AuditSettings, Level
from synth.audit.statistics.calibrate import Flagged, at_most, flagged_at_any, q_values, smallest_detectable_share
from synth.audit.statistics.scores import LevelScores, combined_p


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """level: whose neighbours are named; with "any" the first. p_C, canary_neighbour: of the canaries, alike."""

    level: Level
    p_S: npt.NDArray[np.float64]
    q_S: npt.NDArray[np.float64]
    flagged_S: npt.NDArray[np.bool_]
    flagged: FlaggedPart
    p_C: npt.NDArray[np.float64]
    canary_neighbour: npt.NDArray[np.int64] | None


def decide_on(found: Sequence[LevelScores], patient_H: npt.NDArray[np.str_], settings: AuditSettings) -> Decision:
    """Flag by the level that decides, or by any with Bonferroni's correction: p is then L times the levels' least.

    Either way the part of clips with p <= alpha is at most alpha with nothing memorised, and q <= alpha keeps the
    expected part of false flags at most alpha. The published rule flags what exceeds its threshold at a level.
    """
    deciding = [each for each in found if settings.decide in ("any", each.level)]
    p_S = combined_p([each.p_S for each in deciding])
    q_S = q_values(p_S)
    if settings.rule == "published":
        flagged_S = np.any([each.synthetic.score > each.threshold for each in deciding], axis=0)
    else:
        flagged_S = at_most(q_S, settings.alpha)
    pairs = [(each.synthetic.score, each.holdout.score) for each in deciding]
    part = flagged_at_any(pairs, patient_H, alpha=settings.alpha, seed=settings.seed)
    first = deciding[0]
    p_C = combined_p([each.p_C for each in deciding])
    return Decision(
        level=first.level,
        p_S=p_S,
        q_S=q_S,
        flagged_S=flagged_S,
        flagged=_part(
            part, len(p_S), decided=int(flagged_S.sum()), patients=len(set(patient_H.tolist())), tests=len(deciding)
        ),
        p_C=p_C,
        canary_neighbour=None if first.canaries is None else first.canaries.neighbour,
    )


def _part(found: Flagged, clips: int, *, decided: int, patients: int, tests: int) -> FlaggedPart:
    """tests: levels among which the least p is taken; the least p that can be reached rises with them."""
    return FlaggedPart(
        clips=round(found.fraction * clips),
        fraction=Estimate(value=found.fraction, low=found.bootstrap_low, high=found.bootstrap_high),
        clopper_pearson=Estimate(value=found.fraction, low=found.low, high=found.high),
        excess=found.excess,
        excess_p=found.excess_p,
        decided=decided,
        smallest_detectable_share=smallest_detectable_share(patients, alpha=found.alpha / tests),
    )
