"""The canvas that all figures of a probe share, how labels and classes are named on it, and figures of estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from echofm.intervals import Estimate

SQUARE, WIDE, TALL = (3.7, 3.3), (5.4, 2.9), (3.7, 3.7)
_LONGEST = 22
_UNITS = {"percent": "%", "degree": "°", "degrees": "°", "m2": "m²", "kg_m2": "kg/m²", "mps": "m/s", "hz": "Hz"}
_UNITS |= {unit: unit for unit in ("ml", "mm", "cm", "cm2", "bpm", "s", "ms", "kg", "db", "mmhg", "years")}
_ACRONYMS = {name: name.upper() for name in ("ef", "edv", "esv", "lv", "la", "rv", "ed", "es", "mae", "rmse", "auroc")}
_ACRONYMS |= {
    "map": "mAP",
    "r2": "R²",
    "f1": "F1",
    "hz": "Hz",
    "knn": "kNN",
    "ece": "ECE",
    "hd95": "HD95",
    "mhz": "MHz",
}
_MAXIMUM_ROWS = 60
_LINE_STYLES = ("-", "--", ":", "-.")


def canvas(size_inch: tuple[float, float] = SQUARE) -> tuple[Figure, Axes]:
    """A figure of one panel, without pyplot: nothing global is left behind, and threads may draw."""
    figure = Figure(figsize=size_inch, layout="constrained")
    axes = figure.subplots()
    return figure, axes


def in_words(name: str) -> str:
    """A label's or metric's name as prose: `ef_percent` is "EF (%)", `balanced_accuracy` "balanced accuracy"."""
    stem, _, unit = name.rpartition("_")
    if stem and unit in _UNITS:
        return f"{_words(stem)} ({_UNITS[unit]})"
    return _words(name)


def _words(name: str) -> str:
    return " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))


def unit_of(name: str) -> str:
    """A label's unit, "" where it has none."""
    return _UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""


def cut(name: str, longest: int = _LONGEST) -> str:
    """A class's name, cut where it would not fit."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def line_style(number: int) -> str:
    """Colours come back after six lines; a line's dashes then tell it from the first."""
    return _LINE_STYLES[number // 6 % len(_LINE_STYLES)]


def ink(axes: Axes) -> str:
    """The colour of text in the theme in force."""
    return str(axes.xaxis.label.get_color())


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
            right, at = (1.01, label.get_position()[1]), ("axes fraction", "data")
            axes.annotate(row.note, right, xycoords=at, va="center", fontsize=8, color=quiet, annotation_clip=False)
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
