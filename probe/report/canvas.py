"""The canvas that all figures of a probe share, and how labels and classes are named on it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
