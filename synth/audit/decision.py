"""The decision: which clips are flagged, by one level or by any of several.

S synthetic clips, C canaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from synth.audit.calibrate import at_most, flagged_at_any, q_values
from synth.audit.estimates import flagged_part
from synth.audit.levels import Level
from synth.audit.result import FlaggedPart
from synth.audit.scoring import LevelScores, combined_p

Rule = Literal["conformal", "published"]


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


def decide_on(
    found: Sequence[LevelScores],
    decide: Level | Literal["any"],
    patient_H: npt.NDArray[np.str_],
    *,
    alpha: float,
    rule: Rule,
    seed: int,
) -> Decision:
    """Flag by the level named, or by any with Bonferroni's correction: p is then L times the least of the levels'.

    Either way the part of clips with p <= alpha is at most alpha with nothing memorised, and q <= alpha keeps the
    expected part of false flags at most alpha. The published rule flags what exceeds its threshold at a level.
    """
    deciding = [each for each in found if decide in ("any", each.level)]
    p_S = combined_p([each.p_S for each in deciding])
    q_S = q_values(p_S)
    if rule == "published":
        flagged_S = np.any([each.synthetic.score > each.threshold for each in deciding], axis=0)
    else:
        flagged_S = at_most(q_S, alpha)
    pairs = [(each.synthetic.score, each.holdout.score) for each in deciding]
    part = flagged_at_any(pairs, patient_H, alpha=alpha, seed=seed)
    first = deciding[0]
    p_C = combined_p([each.p_C for each in deciding])
    return Decision(
        level=first.level,
        p_S=p_S,
        q_S=q_S,
        flagged_S=flagged_S,
        flagged=flagged_part(
            part, len(p_S), decided=int(flagged_S.sum()), patients=len(set(patient_H.tolist())), tests=len(deciding)
        ),
        p_C=p_C,
        canary_neighbour=None if first.canaries is None else first.canaries.neighbour,
    )
