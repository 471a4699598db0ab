"""Requested against shown ejection fraction, on held-out anatomy and drawn apart from it. N clips, one of a patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.intervals import Estimate, patient_bootstrap
from echofm.progress import progress_bar
from synth.generator.model import Generator
from synth.generator.plan import Plan
from synth.measure.heart import HeartReader

Floats = npt.NDArray[np.float64]
_ORDERS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Clips, what was asked of them and what the reader makes of them, in percent."""

    asked_N: Floats
    video_BCTHW: torch.Tensor
    shown_N: Floats


def sampled(
    generator: Generator,
    plan: Plan,
    numbers: Sequence[int],
    reader: HeartReader,
    *,
    steps: int = 25,
    guidance: float = 1.0,
) -> Shown:
    """Clips of these numbers of a plan that asks for ejection fractions."""
    videos = []
    with progress_bar(f"{steps} steps, guidance {guidance:g}", len(numbers)) as bar:
        for number in numbers:
            condition, draw_B = plan.condition([number]), plan.draw_B([number])
            videos.append(
                generator.sample(condition, frames=plan.frames, steps=steps, guidance=guidance, draw_B=draw_B)
            )
            bar.advance()
    video_BCTHW = torch.cat(videos)
    asked_N = np.array([plan.ef_percent(number) for number in numbers], np.float64)
    return Shown(asked_N=asked_N, video_BCTHW=video_BCTHW, shown_N=reader.ef_percent_B(video_BCTHW))


def _covariance(pairs: Floats) -> float:
    return float(np.prod(pairs - pairs.mean(0), 1).mean())


STATISTICS: dict[str, Callable[[Floats], float]] = {
    "correlation": lambda pairs: float(_covariance(pairs) / pairs.std(0).prod()),
    "slope": lambda pairs: float(_covariance(pairs) / pairs[:, 0].var()),
    "r2": lambda pairs: float(
        1 - np.square(pairs[:, 1] - pairs[:, 0]).sum() / np.square(pairs[:, 0] - pairs[:, 0].mean()).sum()
    ),
    "mae": lambda pairs: float(np.abs(pairs[:, 1] - pairs[:, 0]).mean()),
}
"""Of (N, 2) requests and answers."""


def agreement(asked_N: Floats, shown_N: Floats) -> dict[str, Estimate]:
    """STATISTICS, with intervals over patients."""
    pairs, patients = np.stack([asked_N, shown_N], 1), np.arange(len(asked_N)).astype(str)
    return {name: patient_bootstrap(each, {"pairs": (pairs, patients)}) for name, each in STATISTICS.items()}


def chance(asked_N: Floats, shown_N: Floats) -> dict[str, Estimate]:
    """The same of requests in other orders: the mean of 200, and the range that holds 95 % of them."""
    rng = np.random.default_rng(0)
    orders = [np.stack([rng.permutation(asked_N), shown_N], 1) for _ in range(_ORDERS)]
    found: dict[str, Estimate] = {}
    for name, statistic in STATISTICS.items():
        values = np.array([statistic(pairs) for pairs in orders])
        low, high = np.percentile(values, [2.5, 97.5])
        found[name] = Estimate(value=float(values.mean()), low=float(low), high=float(high))
    return found
