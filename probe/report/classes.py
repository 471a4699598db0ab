"""Predicted classes: which is taken for which, ROC, reliability; findings and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import auc, confusion_matrix, roc_curve

from echofm.report.blocks import Block, Panels, Picture
from echofm.schema import FrozenModel
from probe.report.calibration import Calibration, reliability
from probe.report.canvas import TALL, canvas, cut, ink, line_style
from probe.result import Probed, ProbeResult

_MOST_CURVES = 12


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
        panels.append(
            Picture(
                draw=partial(roc, curves),
                alt="receiver operating characteristic of each class",
                caption=_roc_caption(probed, len(curves)),
            )
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
    return (
        f"ROC: each class against the rest{some}." if probed.result.task != "multilabel" else f"ROC: each label{some}."
    )


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
