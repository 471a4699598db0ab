"""Samplers: from noise to data along a path, in so many steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from echofm.errors import EchofmError
from synth.generator.path import AverageVelocity, Diffusion, Flow, Path, Predict

Method = Literal["euler", "heun", "ddpm", "ddim", "mean"]
Again = Callable[[int], torch.Tensor]
"""Number of the step to the fresh noise that it adds, as the data."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """output = without + scale (with - without the condition), at times in [low, high]; 1: none.

    arXiv 2207.12598; at middle noise levels only: arXiv 2404.07724.
    """

    scale: float = 1.0
    low: float = 0.1
    high: float = 0.95

    def scale_at(self, time: float) -> float:
        """1 outside the interval."""
        return self.scale if self.low <= time <= self.high else 1.0


def method_of(path: Path) -> Method:
    """What a path is sampled by where nobody says otherwise."""
    if isinstance(path, AverageVelocity):
        return "mean"
    return "euler" if isinstance(path, Flow) else "ddim"


def sample(
    path: Path,
    predict: Predict,
    noise_BCTHW: torch.Tensor,
    *,
    steps: int,
    method: Method | None = None,
    again: Again | None = None,
) -> torch.Tensor:
    """The data at the end of the path.

    method: None: `method_of`. "mean" goes each step by the mean velocity over it. again: of "ddpm", which adds noise.
    Raises EchofmError where method and path do not fit.
    """
    method = method or method_of(path)
    if isinstance(path, Diffusion) != (method in ("ddpm", "ddim")) or (method == "mean") != path.two_times:
        raise EchofmError(f"no sampler {method!r} for {type(path).__name__}; take {method_of(path)!r}")
    if steps < 1:
        raise EchofmError(f"{steps} sampling steps; take 1 or more")
    if isinstance(path, Diffusion):
        return _diffused(path, predict, noise_BCTHW, levels_of(path, steps), again if method == "ddpm" else None)
    assert isinstance(path, Flow)
    return _flowed(path, predict, noise_BCTHW, steps, method)


def _flowed(path: Flow, predict: Predict, noisy: torch.Tensor, steps: int, method: Method) -> torch.Tensor:
    times = [path.shifted(1 - step / steps) for step in range(steps + 1)]
    for time, end in itertools.pairwise(times):
        interval = time - end if method == "mean" else 0.0
        first = _velocity(path, predict, noisy, time, interval)
        ahead = noisy - (time - end) * first
        # At time 0 a network that predicts data says nothing of the velocity: the last step is Euler's.
        if method == "heun" and end > 0:
            first = (first + _velocity(path, predict, ahead, end, 0.0)) / 2
            ahead = noisy - (time - end) * first
        noisy = ahead
    return noisy


def _velocity(path: Flow, predict: Predict, noisy: torch.Tensor, time: float, interval: float) -> torch.Tensor:
    time_B, interval_B = (noisy.new_full((len(noisy),), value) for value in (time, interval))
    return path.velocity(predict(noisy, time_B, interval_B), noisy, time_B)


def levels_of(path: Diffusion, steps: int, *, spacing: Literal["trailing", "leading"] = "trailing") -> list[int]:
    """Levels from the noisiest down. "leading" is as published: it never shows the noisiest ones (64 begin at 945)."""
    if steps > path.levels:
        raise EchofmError(f"{steps} sampling steps of {path.levels} levels; take fewer")
    if spacing == "leading":
        return [path.levels // steps * step for step in reversed(range(steps))]
    return [round(path.levels * (step + 1) / steps) - 1 for step in reversed(range(steps))]


def _diffused(
    path: Diffusion,
    predict: Predict,
    noisy: torch.Tensor,
    levels: Sequence[int],
    again: Again | None,
) -> torch.Tensor:
    for step, (level, following) in enumerate(zip(levels, [*levels[1:], -1])):
        time_B = noisy.new_full((len(noisy),), level / path.levels)
        output = predict(noisy, time_B, torch.zeros_like(time_B))
        noisy = diffusion_step(path, output, noisy, level, following, noise=None if again is None else again(step))
    return noisy


def diffusion_step(
    path: Diffusion,
    output_BCTHW: torch.Tensor,
    noisy_BCTHW: torch.Tensor,
    level: int,
    following: int,
    *,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """From a level to the following one, -1: the data. noise: a draw of the posterior by it (DDPM, arXiv 2006.11239,
    equations 6 and 7); None: none is drawn (DDIM, arXiv 2010.02502)."""
    alphas = path.alphas_cumprod.to(noisy_BCTHW.device)
    alpha, next_alpha = alphas[level], alphas[following] if following >= 0 else alphas.new_ones(())
    data = path.data(output_BCTHW, noisy_BCTHW, noisy_BCTHW.new_full((len(noisy_BCTHW),), level / path.levels))
    if noise is None:
        implied = (noisy_BCTHW - alpha.sqrt() * data) / (1 - alpha).sqrt()
        return next_alpha.sqrt() * data + (1 - next_alpha).sqrt() * implied
    ratio = alpha / next_alpha
    mean = (next_alpha.sqrt() * (1 - ratio) * data + ratio.sqrt() * (1 - next_alpha) * noisy_BCTHW) / (1 - alpha)
    return mean + ((1 - next_alpha) / (1 - alpha) * (1 - ratio)).sqrt() * noise
