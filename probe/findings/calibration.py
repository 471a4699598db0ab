"""Calibration: does what is said with a probability happen that often? (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, patient_bootstrap
from echofm.schema import FrozenModel

BINS = 10


class Bin(FrozenModel):
    """Clips whose said probability lies in [low, high), the last bin [low, high]."""

    low: float
    high: float
    clips: int
    said: float | None
    """Mean said probability; None where the bin is empty."""
    observed: Estimate | None
    """Part of the clips where it was so."""


class Calibration(FrozenModel):
    """Equal bins of the said probability."""

    said_as: str
    """What the probability is of."""
    seen_as: str
    """What was counted."""
    ece: float
    """Expected calibration error: mean |said - observed| over clips by bin. Never 0 with few clips."""
    bins: list[Bin]


def calibration(
    said_N: npt.NDArray,
    is_so_N: npt.NDArray,
    patients_N: npt.NDArray[np.str_],
    *,
    said_as: str,
    seen_as: str,
    low: float = 0.0,
    draws: int = 300,
    seed: int = 0,
) -> Calibration:
    """Of probabilities in [low, 1] and whether each was so; the intervals are over redrawn patients."""
    edges = np.linspace(low, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, said_N, side="right") - 1, 0, BINS - 1)
    bins, gap = [], 0.0
    for number in range(BINS):
        inside = place == number
        said = observed = None
        if inside.any():
            said = float(said_N[inside].mean())
            group = {"test": (is_so_N[inside].astype(float), patients_N[inside])}
            observed = patient_bootstrap(lambda test: float(test.mean()), group, draws=draws, seed=seed)
            gap += inside.mean() * abs(said - observed.value)
        bins.append(
            Bin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                clips=int(inside.sum()),
                said=said,
                observed=observed,
            )
        )
    return Calibration(said_as=said_as, seen_as=seen_as, ece=float(gap), bins=bins)


def of_classes(
    probability_NK: npt.NDArray,
    true_N: npt.NDArray[np.int64],
    said_N: npt.NDArray[np.int64],
    patients_N: npt.NDArray[np.str_],
    *,
    classes: list[str],
) -> Calibration:
    """Two classes: of the second one's probability. More: of the probability of the class said, from 1/K on.

    said_N: what the probe answers, of levels not always the likeliest one.
    """
    if len(classes) == 2:
        name = classes[1]
        words = {"said_as": f"said probability of {name}", "seen_as": f"part that is {name}"}
        return calibration(probability_NK[:, 1], true_N == 1, patients_N, **words)  # type: ignore[arg-type]
    said = probability_NK[np.arange(len(said_N)), said_N]
    low = min(1 / len(classes), float(said.min()))
    return calibration(
        said,
        said_N == true_N,
        patients_N,
        said_as="probability of the class said",
        seen_as="part that is right",
        low=low,
    )
