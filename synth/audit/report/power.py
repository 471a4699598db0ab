"""The page's section on power: what this audit would catch, and what it would miss."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Panels, Picture, Prose, Table
from synth.audit.report.figures import recall_curve
from synth.audit.result import AuditResult, CanaryRecall


def power_blocks(result: AuditResult) -> list[Block]:
    """Recall curves, what is missed, and the table of all kinds and strengths."""
    if not result.power:
        return [
            Prose(
                "No canaries were planted: the audit's power is unknown, and a clean result means nothing yet. Give "
                "the training set as videos or shards, and the audit plants copies of its own; or a table of canaries."
            )
        ]
    groups = [list(group) for _, group in itertools.groupby(result.power, key=lambda each: each.kind)]
    pictures = [
        Picture(
            draw=functools.partial(recall_curve, group),
            alt=f"recall of {group[0].kind} copies against strength: "
            + ", ".join(f"{each.recall.value:.0%} at {each.strength:g}" for each in group),
        )
        for group in groups
    ]
    caption = (
        "Training clips, transformed and put through the same encoder and threshold (p <= alpha) as the synthetic "
        f"clips. The dotted line is what plain copies must reach. Planted: {_planted(result.power)}. "
    )
    missed = [f"{each.kind} at {each.strength:g} ({each.recall.value:.0%})" for each in result.power if _misses(each)]
    text = f"Missed more often than caught: {', '.join(missed)}." if missed else "No kind is missed more than caught."
    table = Table(
        columns=(
            "kind of copy",
            "strength",
            "planted",
            "caught (95 % interval)",
            "flagged among a tenth as close",
            "right patient named",
        ),
        rows=[
            (
                each.kind,
                f"{each.strength:g}",
                each.planted,
                shown(each.recall),
                f"{each.recall_at_a_tenth.value:.0%}",
                f"{each.right_patient:.0%}",
            )
            for each in result.power
        ],
        caption="Caught: p <= alpha, so that many such copies raise the flagged part. Flagged: p <= alpha / 10: "
        "Benjamini-Hochberg names these for removal where a tenth of the set is as close, so copies that make up a "
        "tenth only where nearly all of them are; that needs 199 held-out patients at alpha 0.05, and copies above "
        "nearly all of them.",
    )
    return [Prose(text), Panels(pictures, caption=caption), table]


def _misses(each: CanaryRecall) -> bool:
    return each.recall.value < 0.5


def _planted(power: Sequence[CanaryRecall]) -> str:
    counts = sorted({each.planted for each in power})
    return f"{counts[0]} of each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} of each"


def shown(estimate: Estimate | None) -> str:
    """A part with its interval, in per cent."""
    return "left out" if estimate is None else f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def number(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
