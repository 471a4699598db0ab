"""The verdict: what was measured, its interval and its power, in words that claim no more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from echofm.intervals import Estimate
from synth.audit.canaries.transforms import FAITHFUL, REQUIRED_RECALL, sees_copies
from synth.audit.duplicates import Duplicates
from synth.audit.result import Attacks, CanaryRecall, FlaggedPart, JudgeResult
from synth.audit.settings import AuditSettings
from synth.audit.statistics.scores import Decision


def verdict(
    decision: Decision,
    attacks: Attacks,
    *,
    duplicates: Duplicates,
    judge: JudgeResult | None,
    settings: AuditSettings,
    set_aside: tuple[int, int, int],
    without_features: int,
) -> str:
    """A finding per line. The first is what a reader must not miss: blindness before results.

    set_aside: files without a row of the training, held-out and synthetic set. without_features: synthetic clips of
    which the deciding level knows nothing.
    """
    lines = [
        *_power(decision.recalls),
        *_unseen(set_aside, without_features),
        _share(decision.flagged, settings.alpha, settings.decide),
        _removal(decision.flagged, settings.rule),
        *_duplicates(duplicates),
        _membership(attacks),
    ]
    if judge is not None:
        lines.append(_judge(judge, settings.alpha))
    return "\n".join(line for line in lines if line)


def _power(recalls: Sequence[CanaryRecall]) -> Iterator[str]:
    sees = sees_copies(recalls)
    if sees is None:
        what = "Exact and re-encoded copies were not both planted" if recalls else "No canaries were planted"
        yield f"{what}, so nobody knows what this audit would miss: a clean result means nothing yet."
        return
    worst = min((each for each in recalls if each.kind in FAITHFUL), key=lambda each: each.recall.low)
    if not sees:
        yield (
            f"This encoder misses plain copies (recall {worst.recall.value:.0%} on {worst.kind} ones, "
            f"{REQUIRED_RECALL:.0%} is needed): nothing below can clear the set."
        )
        return
    removed = min(each.recall_at_a_tenth.value for each in recalls if each.kind in FAITHFUL)
    yield (
        f"Exact and re-encoded copies stand out from new patients (recall {worst.recall.value:.1%} of {worst.planted} "
        f"at worst, {_range(worst.recall)}); {removed:.1%} of them at worst are so close (p <= alpha / 10) that they "
        "are flagged for removal where a tenth of a set is as close."
    )
    missed = [f"{each.kind} (at {each.strength:g})" for each in recalls if each.recall.value < 0.5]
    if missed:
        yield f"It misses more than half of the copies changed by {', '.join(missed)}."


def _share(flagged: FlaggedPart, alpha: float, decide: str) -> str:
    part = f"{flagged.fraction.value:.1%} of the synthetic clips ({_range(flagged.fraction)})"
    finding = (
        "more than new patients would be"
        if flagged.excess_p <= alpha
        else "no more than new patients would be, as far as this held-out set can tell"
    )
    expected = f"at most {100 * alpha:.4g}%" if decide == "any" else f"{100 * alpha:.4g}%"
    return (
        f"{part} lie closer to the training set than {100 * (1 - alpha):.4g}% of new patients do: {finding} "
        f"(expected {expected}, chance {flagged.excess_p:.2g})."
    )


def _unseen(set_aside: tuple[int, int, int], without_features: int) -> Iterator[str]:
    training, _, synthetic = set_aside
    if training or synthetic:
        yield (
            f"Not compared: {synthetic} synthetic and {training} training file(s), which cannot be read or are exact "
            "copies of others of their set."
        )
    if without_features:
        yield (
            f"Of {without_features} synthetic clip(s) the deciding level has no features: they count as like no "
            "patient, and nothing is known of them."
        )


def _removal(flagged: FlaggedPart, rule: str) -> str:
    if rule == "published":
        return f"{flagged.decided} clip(s) are flagged for removal by the published rule, which is biased."
    return (
        f"{flagged.decided} clip(s) are flagged for removal; copies that make up less than "
        f"{flagged.smallest_detectable_share:.1%} of the set cannot be flagged."
    )


def _duplicates(duplicates: Duplicates) -> Iterator[str]:
    found = {**(duplicates.perceptual or {}), **duplicates.exact}
    if found:
        yield f"{len(found)} clip(s) show the very recording of a training clip, {len(duplicates.exact)} byte for byte."
    if duplicates.holdout:
        yield (
            f"{len(duplicates.holdout)} clip(s) show the very recording of a held-out clip: the generator has seen "
            "held-out patients, or real clips lie among the synthetic ones, and the held-out set is no null."
        )
    if duplicates.train_holdout:
        yield (
            f"{len(duplicates.train_holdout)} held-out clip(s) show the very recording of a training clip: the null is "
            "too close, and copies pass for new patients."
        )


def _membership(attacks: Attacks) -> str:
    auc = attacks.membership_auc
    if math.isnan(auc.low):
        return f"Membership inference is not decided: the clips of one patient give no interval (AUC {auc.value:.2f})."
    finding = "tells training from new patients" if auc.low > 0.5 else "does not tell training from new patients"
    return f"Membership inference {finding} (AUC {auc.value:.2f}, {auc.low:.2f} to {auc.high:.2f})."


def _judge(judge: JudgeResult, alpha: float) -> str:
    if judge.after is None:
        return "Nothing is left for the judge once the flagged clips are removed."
    blind = "The judge misses plain copies itself. " if judge.sees_copies is False else ""
    left = "still finds an excess" if judge.after.excess_p <= alpha else "finds no excess"
    return (
        f"{blind}With the flagged clips removed, the judge {left}: {judge.after.fraction.value:.1%} "
        f"({_range(judge.after.fraction)}), {judge.before.fraction.value:.1%} before."
    )


def _range(estimate: Estimate) -> str:
    return f"95 % interval {estimate.low:.1%} to {estimate.high:.1%}"
