"""Figures of a predicted number: scatter, Bland-Altman."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from probe.figures.canvas import canvas, in_words, ink, unit_of
from probe.findings.agreement import Agreement


def scatter(true_N: npt.NDArray, said_N: npt.NDArray, *, name: str) -> Figure:
    """Predicted against true on equal axes, with the line where both are equal."""
    figure, axes = canvas()
    axes.scatter(true_N, said_N, s=12, alpha=_opacity(len(true_N)), linewidths=0)
    low, high = float(min(true_N.min(), said_N.min())), float(max(true_N.max(), said_N.max()))
    edge = 0.04 * (high - low)
    ends = (low - edge, high + edge)
    axes.plot(ends, ends, color=ink(axes), linewidth=0.8, linestyle="--")
    axes.set(xlabel=f"true {in_words(name)}", ylabel=f"predicted {in_words(name)}", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    return figure


def bland_altman(true_N: npt.NDArray, said_N: npt.NDArray, *, name: str, agreement: Agreement) -> Figure:
    """Difference against mean, with the bias and the limits of agreement and their 95 % intervals as bands."""
    figure, axes = canvas()
    axes.scatter((true_N + said_N) / 2, said_N - true_N, s=12, alpha=_opacity(len(true_N)), linewidths=0)
    lines = ((agreement.upper, "--", "upper"), (agreement.bias, "-", "bias"), (agreement.lower, "--", "lower"))
    for found, style, _ in lines:
        axes.axhline(found.value, color=ink(axes), linewidth=0.9, linestyle=style)
        axes.axhspan(found.low, found.high, color=ink(axes), alpha=0.10, linewidth=0)
    axes.axhline(0, color=ink(axes), linewidth=0.5, linestyle=":")
    # Room at the right for the numbers, so that they cover no point.
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.2 * (high - low))
    for found, _, _ in lines:
        axes.annotate(
            f"{found.value:+.3g}",
            (0.995, found.value),
            xycoords=("axes fraction", "data"),
            va="bottom",
            ha="right",
            fontsize=8,
        )
    unit = f" ({unit_of(name)})" if unit_of(name) else ""
    axes.set(xlabel=f"mean of true and predicted {in_words(name)}", ylabel=f"predicted - true{unit}")
    axes.locator_params(nbins=6)
    return figure


def _opacity(points: int) -> float:
    return float(np.clip(20 / np.sqrt(points), 0.15, 0.75))
