"""Colours and matplotlib settings shared by all figures, in two themes that match page.css."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from cycler import cycler

# Twice the pixels of the size on screen, so that lines are sharp on a dense display and on paper.
DPI = 200

_INK = {"light": "#1c2530", "dark": "#e4e8ee"}
_QUIET = {"light": "#5d6875", "dark": "#9aa5b3"}
_RULE = {"light": "#dcdfe3", "dark": "#333c47"}
_PAPER = {"light": "#ffffff", "dark": "#171d25"}
# Told apart by those who do not see red from green, too: lightness differs as well as hue.
_SERIES = {
    "light": ["#0b6b80", "#c8553d", "#7a5195", "#d99a1c", "#4f772d", "#6c757d"],
    "dark": ["#5cc4d6", "#f0896f", "#bb98dd", "#f2c14e", "#9cc972", "#a9b2bc"],
}


@contextmanager
def themed(theme: str) -> Iterator[None]:
    """Settings of one theme, "light" or "dark", while the block runs."""
    with matplotlib.rc_context(_settings(theme)):
        yield


def _settings(theme: str) -> Any:
    # Any: the type stubs of matplotlib list the keys, and the list differs between its versions.
    ink, quiet = _INK[theme], _QUIET[theme]
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": quiet,
        "axes.facecolor": _PAPER[theme],
        "axes.grid": True,
        "axes.labelcolor": ink,
        "axes.labelsize": 9,
        "axes.prop_cycle": cycler(color=_SERIES[theme]),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "figure.constrained_layout.h_pad": 0.12,
        "figure.constrained_layout.w_pad": 0.12,
        "figure.facecolor": _PAPER[theme],
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "grid.color": _RULE[theme],
        "grid.linewidth": 0.6,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "savefig.facecolor": _PAPER[theme],
        "text.color": ink,
        "text.parse_math": False,
        "xtick.color": quiet,
        "xtick.labelsize": 8,
        "ytick.color": quiet,
        "ytick.labelsize": 8,
    }
