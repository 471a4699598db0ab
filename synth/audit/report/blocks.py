"""Figures of the audit's page (scores against the null, recall against strength, exposure) and its part on power."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Panels, Picture, Prose, Table
from synth.audit.canaries.transforms import REQUIRED_RECALL, STRENGTHS
from synth.audit.result import AuditResult, CanaryRecall

Doubles = npt.NDArray[np.float64]
_BINS = 50


def score_histogram(
    scores_S: Doubles, null_H: Doubles, removed_S: npt.NDArray[np.bool_], *, title: str, x_label: str
) -> Figure:
    """Similarities of synthetic clips beside those of held-out clips; the ones to remove in a colour of their own."""
    figure, axes = _figure((5.4, 2.7))
    # Clips without features at a level have no score.
    null_H, has = null_H[np.isfinite(null_H)], np.isfinite(scores_S)
    scores_S, removed_S = scores_S[has], removed_S[has]
    both = np.concatenate([scores_S, null_H])
    low, high = both.min(), both.max()
    edges = np.linspace(low, high + 1e-9, _BINS).tolist()
    axes.hist(
        null_H, edges, weights=np.full(len(null_H), 1 / len(null_H)), alpha=0.55, label="held-out patients (null)"
    )
    part = np.full(len(scores_S), 1 / max(1, len(scores_S)))
    kept = [scores_S[~removed_S], scores_S[removed_S]]
    weights = [part[~removed_S], part[removed_S]]
    axes.hist(kept, edges, weights=weights, stacked=True, alpha=0.6, label=["synthetic, kept", "synthetic, to remove"])
    axes.set(title=title, xlabel=x_label, ylabel="part of clips")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def recall_curve(found: Sequence[CanaryRecall]) -> Figure:
    """Recall of one kind of copy against its strength, with intervals; the line is what a plain copy must reach."""
    figure, axes = _figure((2.6, 2.1))
    strength = [each.strength for each in found]
    value = [each.recall.value for each in found]
    # Rounding may put an end of a Wilson interval past its value.
    below = [max(0.0, each.recall.value - each.recall.low) for each in found]
    above = [max(0.0, each.recall.high - each.recall.value) for each in found]
    axes.axhline(REQUIRED_RECALL, color=axes.xaxis.label.get_color(), linewidth=0.7, linestyle=":")
    axes.errorbar(strength, value, yerr=[below, above], fmt="o-", capsize=3, markersize=4)
    kind = found[0].kind
    axes.set(title=kind, xlabel=STRENGTHS.get(kind, "strength"), ylabel="caught", ylim=(-0.04, 1.06))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if len(found) == 1:
        axes.set(xlim=(strength[0] - 1, strength[0] + 1))
        axes.set_xticks([])
    else:
        axes.margins(x=0.12)
        axes.set_xticks(strength, [f"{each:g}" for each in strength])
    return figure


def exposure_curve(clips_per_patient: Sequence[int], *, patients: int) -> Figure:
    """How many synthetic clips each training patient is nearest to, the most exposed first."""
    figure, axes = _figure((5.4, 2.3))
    axes.step(np.arange(1, len(clips_per_patient) + 1), clips_per_patient, where="mid")
    axes.set(
        title="Synthetic clips nearest to each training patient",
        xlabel=f"training patients, the most exposed first (of {patients})",
        ylabel="clips",
        ylim=(0, None),
    )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return figure


def _figure(size_inch: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_inch, layout="constrained")
    return figure, figure.subplots()


def power_table(result: AuditResult) -> list[Block]:
    """What is missed, and the table of all kinds and strengths."""
    if not result.power:
        return [
            Prose(
                "No canaries were planted: the audit's power is unknown, and a clean result means nothing yet. Give "
                "the training set as videos or shards, and the audit plants copies of its own; or a table of canaries."
            )
        ]
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
    return [Prose(text), table]


def power_pictures(result: AuditResult) -> list[Block]:
    """Recall curves, a kind of copy each, and what each level alone catches."""
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
    return [Panels(pictures, caption=caption), *_by_level(result)]


def _by_level(result: AuditResult) -> list[Block]:
    """What each level alone catches, side by side; nothing where there is one."""
    if len(result.levels) < 2:
        return []
    rows = [
        (each[0].kind, f"{each[0].strength:g}", *(shown(level.recall) for level in each))
        for each in zip(*(level.power for level in result.levels))
    ]
    columns = ("kind of copy", "strength", *(f"{each.level} level" for each in result.levels))
    return [Table(columns=columns, rows=rows, caption="Caught (95 % interval) by each level alone.")]


def _misses(each: CanaryRecall) -> bool:
    return each.recall.value < 0.5


def _planted(power: Sequence[CanaryRecall]) -> str:
    counts = sorted({each.planted for each in power})
    return f"{counts[0]} of each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} of each"


def shown(estimate: Estimate | None) -> str:
    """A part with its interval, in per cent."""
    if estimate is None:
        return "left out"
    # On one line of a cell.
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})".replace(" ", "\N{NO-BREAK SPACE}")


def number(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
