"""Estimates with intervals beneath one another, and a metric against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from echofm.intervals import Estimate
from probe.report.canvas import canvas, cut, in_words, ink, line_style

_MAXIMUM_ROWS = 60


class Row(NamedTuple):
    """One line of a forest plot; without an estimate it is a heading."""

    name: str
    estimate: Estimate | None = None
    note: str = ""
    strong: bool = False


def forest(rows: Sequence[Row], *, metric: str, reference: float | None = None) -> Figure:
    """A dot and its interval per row, from the top; a dashed line at the reference, notes at the right."""
    rows = rows[:_MAXIMUM_ROWS]
    figure, axes = canvas((5.4, 0.95 + 0.25 * len(rows)))
    quiet, text = axes.xaxis.get_ticklabels()[0].get_color(), ink(axes)
    strong, plain = "C0", quiet if any(row.strong for row in rows) else "C0"
    for place, row in enumerate(rows):
        if row.estimate is None:
            continue
        value, low, high = row.estimate.value, row.estimate.low, row.estimate.high
        colour = strong if row.strong else plain
        axes.plot([low, high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(value, place, "o" if row.strong or plain == "C0" else "s", color=colour, markersize=5)
    if reference is not None:
        axes.axvline(reference, color=text, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(rows)), [cut(row.name, 34) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows):
        label.set_color(text)
        label.set_fontweight("bold" if row.estimate is None else "normal")
        if row.note:
            place, at = (1.01, label.get_position()[1]), ("axes fraction", "data")
            axes.annotate(row.note, place, xycoords=at, va="center", fontsize=8, color=quiet, annotation_clip=False)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=in_words(metric), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=7)
    return figure


class Curve(NamedTuple):
    """A method's estimates by number of labelled training patients, rising."""

    patients: Sequence[int]
    estimates: Sequence[Estimate]


def label_efficiency(curves: Mapping[str, Curve], *, metric: str) -> Figure:
    """The metric against the number of labelled training patients; a method measured once is a level line."""
    figure, axes = canvas((5.4, 3.1))
    points = sorted({count for curve in curves.values() for count in curve.patients})
    for number, (name, curve) in enumerate(curves.items()):
        value = np.array([each.value for each in curve.estimates])
        if len(curve.patients) == 1:
            axes.axhline(value[0], color=f"C{number}", linewidth=1, linestyle="--", label=cut(name))
            continue
        reach = [
            np.maximum(0, value - [each.low for each in curve.estimates]),
            np.maximum(0, [each.high for each in curve.estimates] - value),
        ]
        axes.errorbar(
            curve.patients, value, yerr=reach, marker="o", markersize=4, capsize=3, color=f"C{number}",
            linestyle=line_style(number), label=cut(name),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(points, [str(count) for count in points])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="labelled training patients", ylabel=in_words(metric))
    if len(curves) > 1:
        # matplotlib lists lines before error bars; here they come in the order given.
        found = dict(zip(*axes.get_legend_handles_labels()[::-1]))
        names = [cut(name) for name in curves]
        lines, columns = [found[name] for name in names], min(3, len(curves))
        axes.legend(lines, names, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, ncols=columns)
    return figure
