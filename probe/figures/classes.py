"""Figures of predicted classes: ROC, reliability, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc, roc_curve

from probe.figures.canvas import canvas, cut, ink, line_style
from probe.findings.calibration import Calibration
from probe.findings.confusion import Confusion

_TALL = (3.7, 3.7)
# A bin of fewer clips is drawn hollow: its interval tells nothing.
_FEW_CLIPS = 5


def roc(curves: Mapping[str, tuple[npt.NDArray, npt.NDArray]]) -> Figure:
    """A curve per class: name -> (whether a clip is of it, its predicted probability)."""
    figure, axes = canvas(_TALL)
    for number, (name, (is_it_N, said_N)) in enumerate(curves.items()):
        false_rate, true_rate, _ = roc_curve(is_it_N, said_N)
        area = auc(false_rate, true_rate)
        axes.plot(false_rate, true_rate, line_style(number), label=f"{cut(name, 16)}, {area:.3f}")
    axes.plot([0, 1], [0, 1], color=ink(axes), linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", title="area under the curve", title_fontsize=8, fontsize=7 if len(curves) > 6 else 8)
    return figure


def reliability(found: Calibration) -> Figure:
    """What happened against what was said, by bin of the said probability; below, how many clips a bin has."""
    figure = Figure(figsize=_TALL, layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    ends = [float(found.bins[0].low), 1.0]
    upper.plot(ends, ends, color=ink(upper), linewidth=0.8, linestyle="--")
    for each in found.bins:
        if each.said is None or each.observed is None:
            continue
        seen, few = each.observed, each.clips < _FEW_CLIPS
        # Redrawn means of few patients may all lie on one side of the mean.
        reach = [[max(0.0, seen.value - seen.low)], [max(0.0, seen.high - seen.value)]]
        fill = "none" if few else "full"
        upper.errorbar(each.said, seen.value, None if few else reach, marker="o", color="C0", fillstyle=fill, capsize=2)
    upper.set(ylabel=found.seen_as, ylim=(-0.03, 1.03))
    upper.set_title(f"expected calibration error {found.ece:.3f}")
    widths = [each.high - each.low for each in found.bins]
    lower.bar([each.low for each in found.bins], [each.clips for each in found.bins], widths, align="edge", alpha=0.6)
    lower.set(xlabel=found.said_as, ylabel="clips", xlim=(found.bins[0].low - 0.02, 1.02))
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def confusion(found: Confusion) -> Figure:
    """Part of each true class (row) given each predicted class (column), with counts."""
    counts = np.array(found.counts)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    many = len(found.classes)
    side = min(7.0, max(3.5, 1.9 + 0.42 * many))
    figure, axes = canvas((side, side))
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        ink_of_cell = "black" if share[row, column] > 0.5 else "white"
        axes.text(column, row, str(count), ha="center", va="center", color=ink_of_cell, fontsize=9 if many < 10 else 7)
    names = [cut(name, 14) for name in found.classes]
    axes.set_xticks(
        range(many), names, rotation=45 if _too_wide(names) else 0, ha="right" if _too_wide(names) else "center"
    )
    axes.set_yticks(range(many), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="part of the true class", shrink=0.75)
    return figure


def _too_wide(names: Sequence[str]) -> bool:
    return max(len(name) for name in names) > 5 or len(names) > 5
