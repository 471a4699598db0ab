"""Agreement of a predicted number with the true one (Bland and Altman 1986): figures, findings, pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from echofm.intervals import Estimate, patient_bootstrap
from echofm.report.blocks import Block, Panels, Picture, Table
from echofm.schema import FrozenModel
from probe.report.canvas import canvas, in_words, ink, unit_of
from probe.report.results import shown
from probe.result import Probed

_SD_95 = 1.96


class Agreement(FrozenModel):
    """Differences predicted minus true over test clips; intervals over redrawn patients, in the label's unit."""

    bias: Estimate
    """Mean difference."""
    lower: Estimate
    """Lower 95 % limit of agreement, bias - 1.96 sd."""
    upper: Estimate
    """Upper one."""
    slope: Estimate
    """Of predicted on true, by least squares: 1 where extremes are told, 0 where the mean is always said."""


def agreement(predictions: pd.DataFrame) -> Agreement:
    """Of a frame with the columns patient_id, true, predicted; at least two clips of different true values."""
    groups = {"pairs_N2": (predictions[["true", "predicted"]].to_numpy(float), predictions["patient_id"].to_numpy(str))}
    statistics: dict[str, Callable[..., float]] = {
        "bias": partial(_limit, deviations=0),
        "lower": partial(_limit, deviations=-_SD_95),
        "upper": partial(_limit, deviations=_SD_95),
        "slope": _slope,
    }
    return Agreement(**{name: patient_bootstrap(of, groups) for name, of in statistics.items()})


def _limit(pairs_N2: np.ndarray, deviations: float) -> float:
    difference = pairs_N2[:, 1] - pairs_N2[:, 0]
    return float(difference.mean() + deviations * difference.std(ddof=1))


def _slope(pairs_N2: np.ndarray) -> float:
    centred = pairs_N2 - pairs_N2.mean(0)
    spread = float((centred[:, 0] ** 2).sum())
    return float(centred[:, 0] @ centred[:, 1]) / spread if spread > 0 else float("nan")


def agreement_blocks(probed: Probed, limits: Agreement) -> list[Block]:
    """Predicted against true, their differences, and the limits of agreement."""
    true, predicted = (probed.predictions[name].to_numpy(float) for name in ("true", "predicted"))
    name = probed.result.target
    table = Table(
        columns=("bias", "lower limit", "upper limit", "slope on true"),
        rows=[tuple(map(shown, (limits.bias, limits.lower, limits.upper, limits.slope)))],
        caption="Limits of agreement: bias ± 1.96 standard deviations of the differences, each with its 95 % interval. "
        "Slope: 1 where high and low values are told apart in full, 0 where the mean is always said.",
    )
    panels = Panels(
        [
            Picture(draw=partial(scatter, true, predicted, name=name), alt=f"predicted against true {in_words(name)}"),
            Picture(
                draw=partial(bland_altman, true, predicted, name=name, agreement=limits),
                alt="predicted minus true against their mean, with bias and limits of agreement",
            ),
        ],
        caption=f"{len(true)} test clips. Right: Bland-Altman, with bias (line), limits of agreement (dashed) and "
        "their intervals (bands).",
    )
    return [panels, table]


def scatter(true_N: npt.NDArray, predicted_N: npt.NDArray, *, name: str) -> Figure:
    """Predicted against true on equal axes, with the line where both are equal."""
    figure, axes = canvas()
    axes.scatter(true_N, predicted_N, s=12, alpha=_opacity(len(true_N)), linewidths=0)
    low, high = float(min(true_N.min(), predicted_N.min())), float(max(true_N.max(), predicted_N.max()))
    edge = 0.04 * (high - low)
    ends = (low - edge, high + edge)
    axes.plot(ends, ends, color=ink(axes), linewidth=0.8, linestyle="--")
    axes.set(xlabel=f"true {in_words(name)}", ylabel=f"predicted {in_words(name)}", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    return figure


def bland_altman(true_N: npt.NDArray, predicted_N: npt.NDArray, *, name: str, agreement: Agreement) -> Figure:
    """Difference against mean, with the bias and the limits of agreement and their 95 % intervals as bands."""
    figure, axes = canvas()
    axes.scatter((true_N + predicted_N) / 2, predicted_N - true_N, s=12, alpha=_opacity(len(true_N)), linewidths=0)
    lines = ((agreement.upper, "--"), (agreement.bias, "-"), (agreement.lower, "--"))
    for found, style in lines:
        axes.axhline(found.value, color=ink(axes), linewidth=0.9, linestyle=style)
        axes.axhspan(found.low, found.high, color=ink(axes), alpha=0.10, linewidth=0)
    axes.axhline(0, color=ink(axes), linewidth=0.5, linestyle=":")
    # Room at the right for the numbers, so that they cover no point.
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.2 * (high - low))
    for found, _ in lines:
        place, at = (0.995, found.value), ("axes fraction", "data")
        axes.annotate(f"{found.value:+.3g}", place, xycoords=at, va="bottom", ha="right", fontsize=8)
    unit = f" ({unit_of(name)})" if unit_of(name) else ""
    axes.set(xlabel=f"mean of true and predicted {in_words(name)}", ylabel=f"predicted - true{unit}")
    axes.locator_params(nbins=6)
    return figure


def _opacity(points: int) -> float:
    return float(np.clip(20 / np.sqrt(points), 0.15, 0.75))
