"""Predicted classes: which is taken for which, ROC, and calibration; findings and pictures.

Calibration: does what is predicted with a probability happen that often? (Guo et al. 2017, arXiv 1706.04599)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import auc, confusion_matrix, roc_curve

from echofm.intervals import Estimate, patient_bootstrap
from echofm.report.blocks import Block, Panels, Picture
from echofm.schema import FrozenModel
from probe.report.canvas import TALL, canvas, cut, ink, line_style
from probe.result import Probed, ProbeResult

_MOST_CURVES = 12
# A bin of fewer clips is drawn hollow: its interval tells nothing.
_FEW_CLIPS = 5
BINS = 10


class Bin(FrozenModel):
    """Clips whose said probability lies in [low, high), the last bin [low, high]."""

    low: float
    high: float
    clips: int
    predicted: float | None
    """Mean said probability; None where the bin is empty."""
    observed: Estimate | None
    """Part of the clips where it was so."""


class Calibration(FrozenModel):
    """Equal bins of the said probability."""

    predicted_as: str
    """What the probability is of."""
    seen_as: str
    """What was counted."""
    ece: float
    """Expected calibration error: mean |said - observed| over clips by bin. Never 0 with few clips."""
    bins: list[Bin]


def calibration(
    predicted_N: npt.NDArray,
    is_so_N: npt.NDArray,
    patients_N: npt.NDArray[np.str_],
    *,
    predicted_as: str,
    seen_as: str,
    low: float = 0.0,
    draws: int = 300,
    seed: int = 0,
) -> Calibration:
    """Of probabilities in [low, 1] and whether each was so; the intervals are over redrawn patients."""
    edges = np.linspace(low, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, predicted_N, side="right") - 1, 0, BINS - 1)
    bins, gap = [], 0.0
    for number in range(BINS):
        inside = place == number
        predicted = observed = None
        if inside.any():
            predicted = float(predicted_N[inside].mean())
            group = {"test": (is_so_N[inside].astype(float), patients_N[inside])}
            observed = patient_bootstrap(lambda test: float(test.mean()), group, draws=draws, seed=seed)
            gap += inside.mean() * abs(predicted - observed.value)
        ends = {"low": float(edges[number]), "high": float(edges[number + 1])}
        bins.append(Bin(**ends, clips=int(inside.sum()), predicted=predicted, observed=observed))
    return Calibration(predicted_as=predicted_as, seen_as=seen_as, ece=float(gap), bins=bins)


def of_classes(
    probability_NK: npt.NDArray,
    true_N: npt.NDArray[np.int64],
    predicted_N: npt.NDArray[np.int64],
    patients_N: npt.NDArray[np.str_],
    *,
    classes: list[str],
) -> Calibration:
    """Two classes: of the second one's probability. More: of the probability of the class said, from 1/K on.

    predicted_N: what the probe answers, of levels not always the likeliest one.
    """
    if len(classes) == 2:
        name = classes[1]
        words = {"predicted_as": f"said probability of {name}", "seen_as": f"part that is {name}"}
        return calibration(probability_NK[:, 1], true_N == 1, patients_N, **words)  # type: ignore[arg-type]
    predicted = probability_NK[np.arange(len(predicted_N)), predicted_N]
    low = min(1 / len(classes), float(predicted.min()))
    return calibration(
        predicted,
        predicted_N == true_N,
        patients_N,
        predicted_as="probability of the class said",
        seen_as="part that is right",
        low=low,
    )


class Confusion(FrozenModel):
    """counts: test clips by true class (row) and predicted class (column), both in the order of `classes`."""

    classes: list[str]
    counts: list[list[int]]


def confusion(predictions: pd.DataFrame, *, classes: list[str]) -> Confusion:
    """Of a frame with the columns true and predicted."""
    counts = confusion_matrix(predictions["true"].astype(str), predictions["predicted"].astype(str), labels=classes)
    return Confusion(classes=list(classes), counts=counts.tolist())


def class_words(result: ProbeResult) -> list[str]:
    """The classes as one speaks of them: of a label that is 0 or 1 the second is the label itself."""
    name = result.target.replace("_", " ")
    return [f"not {name}", name] if list(result.classes) == ["0", "1"] else list(result.classes)


def class_blocks(probed: Probed, *, calibrations: Mapping[str, Calibration], matrix: Confusion | None) -> list[Block]:
    """ROC, reliability and confusion."""
    panels: list[Picture] = []
    curves = _curves(probed)
    if curves:
        caption = _roc_caption(probed, len(curves))
        panels.append(
            Picture(draw=partial(roc, curves), alt="receiver operating characteristic of each class", caption=caption)
        )
    for name, calibration in list(calibrations.items())[:_MOST_CURVES]:
        of = f" of {name}" if name else ""
        panels.append(
            Picture(
                draw=partial(reliability, calibration),
                alt=f"reliability diagram{of}",
                caption=f"Reliability{of}: above the dashed line things happen more often than said. Hollow: bins of "
                f"fewer than 5 clips. Few clips alone make an error above 0.{_weighed(probed.result)}",
            )
        )
    # Two side by side: three would be too small to read.
    blocks: list[Block] = [Panels(panels[first : first + 2]) for first in range(0, len(panels), 2)]
    if matrix is not None:
        blocks.append(
            Picture(
                draw=partial(confusion_picture, matrix),
                alt="confusion matrix",
                caption="Confusion: test clips; colour is the part of the true class.",
            )
        )
    return blocks


def _weighed(result: ProbeResult) -> str:
    if result.kind == "knn":
        return ""
    return (
        " The probe was fitted as though all classes were equally common; where they are not, its probabilities are "
        "off by that, whatever the encoder."
    )


def _curves(probed: Probed) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of two classes the second, else the commonest ones, each against the rest; of several labels each."""
    rows, names = probed.predictions, list(probed.result.classes)
    if not names or not {f"probability_{name}" for name in names} <= set(rows.columns):
        return {}
    if probed.result.task == "multilabel":
        is_it = {name: rows[f"true_{name}"] for name in names}
    else:
        wanted = names[1:] if len(names) == 2 else names
        is_it = {name: (rows["true"].astype(str) == name).astype(float) for name in wanted}
    curves = {}
    for name, so in is_it.items():
        known = so.notna().to_numpy(bool)
        so_N = so.to_numpy(float)[known] > 0.5
        if 0 < so_N.mean() < 1:
            curves[name] = so_N, rows[f"probability_{name}"].to_numpy(float)[known]
    if probed.result.task != "multilabel" and len(names) == 2 and curves:
        return {class_words(probed.result)[1]: curves[names[1]]}
    most = sorted(curves, key=lambda name: -int(curves[name][0].sum()))[:_MOST_CURVES]
    return {name: curves[name] for name in curves if name in most}


def _roc_caption(probed: Probed, drawn: int) -> str:
    if probed.result.task != "multilabel" and len(probed.result.classes) == 2:
        other, name = class_words(probed.result)
        return f"ROC of {name} against {other}."
    some = f", the {_MOST_CURVES} commonest" if len(probed.result.classes) > drawn == _MOST_CURVES else ""
    return f"ROC: each {'label' if probed.result.task == 'multilabel' else 'class against the rest'}{some}."


def roc(curves: Mapping[str, tuple[npt.NDArray, npt.NDArray]]) -> Figure:
    """A curve per class: name -> (whether a clip is of it, its predicted probability)."""
    figure, axes = canvas(TALL)
    for number, (name, (is_it_N, predicted_N)) in enumerate(curves.items()):
        false_rate, true_rate, _ = roc_curve(is_it_N, predicted_N)
        area = auc(false_rate, true_rate)
        axes.plot(false_rate, true_rate, line_style(number), label=f"{cut(name, 16)}, {area:.3f}")
    axes.plot([0, 1], [0, 1], color=ink(axes), linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", title="area under the curve", title_fontsize=8, fontsize=7 if len(curves) > 6 else 8)
    return figure


def confusion_picture(found: Confusion) -> Figure:
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
    too_wide = max(len(name) for name in names) > 5 or many > 5
    axes.set_xticks(range(many), names, rotation=45 if too_wide else 0, ha="right" if too_wide else "center")
    axes.set_yticks(range(many), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="part of the true class", shrink=0.75)
    return figure


def reliability(found: Calibration) -> Figure:
    """What happened against what was said, by bin of the said probability; below, how many clips a bin has."""
    figure = Figure(figsize=TALL, layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    ends = [float(found.bins[0].low), 1.0]
    upper.plot(ends, ends, color=ink(upper), linewidth=0.8, linestyle="--")
    for each in found.bins:
        if each.predicted is None or each.observed is None:
            continue
        seen, few = each.observed, each.clips < _FEW_CLIPS
        # Redrawn means of few patients may all lie on one side of the mean.
        reach = [[max(0.0, seen.value - seen.low)], [max(0.0, seen.high - seen.value)]]
        fill = "none" if few else "full"
        bar = None if few else reach
        upper.errorbar(each.predicted, seen.value, bar, marker="o", color="C0", fillstyle=fill, capsize=2)
    upper.set(ylabel=found.seen_as, ylim=(-0.03, 1.03))
    upper.set_title(f"expected calibration error {found.ece:.3f}")
    widths = [each.high - each.low for each in found.bins]
    lower.bar([each.low for each in found.bins], [each.clips for each in found.bins], widths, align="edge", alpha=0.6)
    lower.set(xlabel=found.predicted_as, ylabel="clips", xlim=(found.bins[0].low - 0.02, 1.02))
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure
