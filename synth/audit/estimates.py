"""Figures as the result holds them."""

from __future__ import annotations

from echofm.intervals import Interval
from synth.audit.calibrate import Flagged, smallest_detectable_share
from synth.audit.power import Recall
from synth.audit.result import CanaryRecall, Estimate, FlaggedPart


def estimate(interval: Interval) -> Estimate:
    """An interval as the result holds it."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def flagged_part(found: Flagged, clips: int, *, decided: int, patients: int, tests: int = 1) -> FlaggedPart:
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


def recall_figure(each: Recall) -> CanaryRecall:
    """One kind and strength as the result holds it."""
    return CanaryRecall(
        kind=each.kind,
        strength=each.strength,
        planted=each.planted,
        recall=estimate(each.recall),
        recall_at_a_tenth=estimate(each.recall_at_a_tenth),
        right_patient=each.right_patient,
    )
