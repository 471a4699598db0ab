"""The verdict: what was measured, its interval and its power, in words that claim no more."""

from __future__ import annotations

from collections.abc import Sequence

from synth.audit.canaries import FAITHFUL, REQUIRED_RECALL
from synth.audit.power import Recall, sees_copies
from synth.audit.result import Attacks, Estimate, FlaggedPart


def verdict(flagged: FlaggedPart, attacks: Attacks, recalls: Sequence[Recall], *, alpha: float) -> str:
    """One paragraph. Its first sentence is what a reader must not miss: blindness before results."""
    return " ".join([_power(recalls), _copies(flagged, alpha), _membership(attacks)])


def _power(recalls: Sequence[Recall]) -> str:
    sees = sees_copies(recalls)
    if sees is None:
        return "No canaries were planted, so nobody knows what this audit would miss: a clean result means nothing yet."
    worst = min((each for each in recalls if each.kind in FAITHFUL), key=lambda each: each.recall.value)
    if not sees:
        return (
            f"This encoder misses plain copies (recall {worst.recall.value:.0%} on {worst.kind} ones, "
            f"{REQUIRED_RECALL:.0%} is needed): nothing below can clear the set."
        )
    missed = sorted({each.kind for each in recalls if each.recall.value < 0.5})
    blind = f" It misses more than half of: {', '.join(missed)}." if missed else ""
    return f"Exact and re-encoded copies are caught (recall {worst.recall.value:.1%} or more).{blind}"


def _copies(flagged: FlaggedPart, alpha: float) -> str:
    part = f"{flagged.fraction.value:.1%} of the synthetic clips ({_range(flagged.fraction)})"
    finding = (
        "more than new patients would be"
        if flagged.excess_p <= alpha
        else "no more than new patients would be, as far as this held-out set can tell"
    )
    return (
        f"{part} lie closer to the training set than {1 - alpha:.0%} of new patients do: {finding} "
        f"(expected {alpha:.0%}, chance {flagged.excess_p:.2g}). {flagged.decided} clip(s) are flagged for removal; "
        f"copies that make up less than {flagged.smallest_detectable_share:.1%} of the set cannot be flagged."
    )


def _membership(attacks: Attacks) -> str:
    auc = attacks.membership_auc
    finding = "tells training from new patients" if auc.low > 0.5 else "does not tell training from new patients"
    return f"Membership inference {finding} (AUC {auc.value:.2f}, {auc.low:.2f} to {auc.high:.2f})."


def _range(estimate: Estimate) -> str:
    return f"95 % interval {estimate.low:.1%} to {estimate.high:.1%}"
