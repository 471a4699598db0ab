"""Calibration: does what is predicted with a probability happen that often? (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from echofm.intervals import Estimate, patient_bootstrap
from echofm.schema import FrozenModel
from probe.report.canvas import TALL, ink

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
        bins.append(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                clips=int(inside.sum()),
                predicted=predicted,
                observed=observed,
            )
        )
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
