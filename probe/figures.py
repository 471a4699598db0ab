"""Figures of a probe's report, one panel each, in the theme in force."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from probe.result import ProbeResult

_SQUARE, _WIDE = (3.7, 3.3), (5.4, 2.9)


def scatter(true_N: npt.NDArray, said_N: npt.NDArray, *, name: str) -> Figure:
    """Predicted against true, with the line where both are equal."""
    figure, axes = _figure(_SQUARE)
    axes.scatter(true_N, said_N, s=12, alpha=0.6)
    ends = [float(min(true_N.min(), said_N.min())), float(max(true_N.max(), said_N.max()))]
    axes.plot(ends, ends, color=axes.xaxis.label.get_color(), linewidth=0.8, linestyle="--")
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    return figure


def bland_altman(true_N: npt.NDArray, said_N: npt.NDArray, *, name: str) -> Figure:
    """Difference against mean, with bias and limits of agreement, bias +- 1.96 sd (Bland and Altman 1986)."""
    figure, axes = _figure(_SQUARE)
    difference = said_N - true_N
    bias, limit = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    axes.scatter((true_N + said_N) / 2, difference, s=12, alpha=0.6)
    ink = axes.xaxis.label.get_color()
    for height, style in ((bias, "-"), (bias - limit, "--"), (bias + limit, "--")):
        axes.axhline(height, color=ink, linewidth=0.8, linestyle=style)
        axes.annotate(
            f"{height:+.1f}", (1, height), xycoords=("axes fraction", "data"), va="bottom", ha="right", fontsize=7
        )
    axes.set(xlabel=f"mean of true and predicted {name}", ylabel="predicted - true")
    return figure


def confusion(true_N: npt.NDArray, said_N: npt.NDArray, *, classes: list[str]) -> Figure:
    """Part of each true class (row) given each predicted class (column), with counts."""
    counts = confusion_matrix(true_N, said_N, labels=classes)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure, axes = _figure(_SQUARE)
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column, row, str(count), ha="center", va="center", color="black" if share[row, column] > 0.5 else "white"
        )
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    return figure


def roc(true_N: npt.NDArray, probability: dict[str, npt.NDArray]) -> Figure:
    """One curve per class against the rest."""
    figure, axes = _figure(_SQUARE)
    for name, said_N in probability.items():
        fpr, tpr, _ = roc_curve(true_N == name, said_N)
        axes.plot(fpr, tpr, label=name)
    axes.plot([0, 1], [0, 1], color=axes.xaxis.label.get_color(), linewidth=0.8, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")
    return figure


def label_efficiency(result: ProbeResult, metric: str) -> Figure:
    """The metric against the part of the training patients whose labels were used."""
    figure, axes = _figure(_WIDE)
    scores = sorted(
        (s.label_fraction, s.estimate)
        for s in result.scores
        if (s.method, s.level, s.metric) == ("probe", "clip", metric)
    )
    patients = [max(2, round(fraction * result.patients["train"])) for fraction, _ in scores]
    value, low, high = (np.array([getattr(each, name) for _, each in scores]) for name in ("value", "low", "high"))
    axes.errorbar(patients, value, yerr=[value - low, high - value], marker="o", capsize=3)
    axes.set_xscale("log")
    axes.set(xlabel="labelled training patients", ylabel=metric.replace("_", " "))
    return figure


def _figure(size_inch: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_inch, layout="constrained")
    return figure, figure.subplots()
