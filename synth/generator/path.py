"""Paths between noise and data: what a network is shown, what it is to predict, and what its output says.

Time t runs from 0, data, to 1, noise; a sampler goes back. Shapes: B clips, T frames, C channels, H rows, W columns of
images or latents.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from echofm.draws import Stream, bernoulli, integers, normal, uniform

T = TypeVar("T", float, torch.Tensor)
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy_BCTHW, time_B, interval_B) to the network's output_BCTHW; the interval is 0 where there is one time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """Of each clip the time that the network is shown, and how far below it the one lies that it is to reach."""

    time_B: torch.Tensor
    interval_B: torch.Tensor


class Path(abc.ABC):
    """The maths of one way to generate. two_times: whether the network is to know two."""

    two_times: ClassVar[bool] = False

    def noise(self, draw_B: torch.Tensor, *shape: int) -> torch.Tensor:
        """The noise at time 1, (B, *shape)."""
        return normal(draw_B, *shape, stream=Stream.NOISE)

    @abc.abstractmethod
    def times(self, draw_B: torch.Tensor) -> Times:
        """Of training, drawn for each clip."""

    @abc.abstractmethod
    def noisy(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """What the network is shown at a time."""

    @abc.abstractmethod
    def target(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """What the network is to predict at a time."""

    @abc.abstractmethod
    def data(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """The data that the network's output stands for."""

    def weight_B(self, time_B: torch.Tensor) -> torch.Tensor:
        """Of each clip's error in the loss."""
        return torch.ones_like(time_B)

    def loss_B(
        self,
        predict: Predict,
        data_BCTHW: torch.Tensor,
        noise_BCTHW: torch.Tensor,
        times: Times,
        valid_BT: torch.Tensor,
    ) -> torch.Tensor:
        """Each clip's loss, over its valid frames."""
        time_B = times.time_B
        output_BCTHW = predict(self.noisy(data_BCTHW, noise_BCTHW, time_B), time_B, times.interval_B)
        error_BCTHW = output_BCTHW - self.target(data_BCTHW, noise_BCTHW, time_B)
        return self.weight_B(time_B) * mean_square_B(error_BCTHW, valid_BT)


@dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """Times of which ln(t / (1 - t)) is normal: arXiv 2403.03206."""

    mean: float
    std: float

    def __call__(self, draw_B: torch.Tensor, count: int = 1) -> torch.Tensor:
        """(B, count)."""
        return torch.sigmoid(self.mean + self.std * normal(draw_B, count, stream=Stream.NOISE_LEVEL))


def _uniform(draw_B: torch.Tensor, count: int = 1) -> torch.Tensor:
    return uniform(draw_B, count, stream=Stream.NOISE_LEVEL).float()


@dataclass(frozen=True, kw_only=True)
class Flow(Path):
    """Linear flow: z = (1 - t) x + (e + (1 - e) t) noise, the network predicts its velocity (arXiv 2210.02747).

    data_noise: e, the noise that is left at time 0. level: of training's times; None: uniform. shift: `shifted`.
    """

    data_noise: float = 1e-5
    level: LogitNormal | None = None
    shift: float = 1.0

    def shifted(self, time: T) -> T:
        """A time s t / (1 + (s - 1) t), for s above 1 nearer to noise, where what many places share is decided:
        arXiv 2403.03206, section 5.3.2."""
        return self.shift * time / (1 + (self.shift - 1) * time)

    def times(self, draw_B: torch.Tensor) -> Times:
        time_B = self.shifted((self.level or _uniform)(draw_B)[:, 0])
        return Times(time_B=time_B, interval_B=torch.zeros_like(time_B))

    def noisy(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        t = per_clip(time_B)
        return (1 - t) * data_BCTHW + (self.data_noise + (1 - self.data_noise) * t) * noise_BCTHW

    def target(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """dz/dt = (1 - e) noise - x, at any time."""
        return (1 - self.data_noise) * noise_BCTHW - data_BCTHW

    def velocity(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """dz/dt by the network's output."""
        return output_BCTHW

    def data(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        velocity = self.velocity(output_BCTHW, noisy_BCTHW, time_B)
        noise_BCTHW = noisy_BCTHW + (1 - per_clip(time_B)) * velocity
        return (1 - self.data_noise) * noise_BCTHW - velocity


@dataclass(frozen=True, kw_only=True)
class DataFlow(Flow):
    """The same, where the network predicts the data and the loss is the velocity's, |x' - x|^2 / max(t, floor)^2.

    "JiT", arXiv 2511.13720, whose time runs the other way. The floor is the loss's alone: a sampler that kept it would
    stop short of the data.
    """

    data_noise: float = 0.0
    level: LogitNormal | None = LogitNormal(mean=0.8, std=0.8)
    floor: float = 0.05

    def target(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        return data_BCTHW

    def weight_B(self, time_B: torch.Tensor) -> torch.Tensor:
        return time_B.clamp(min=self.floor).pow(-2)

    def velocity(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        return (noisy_BCTHW - output_BCTHW) / per_clip(time_B)

    def data(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        return output_BCTHW


@dataclass(frozen=True, kw_only=True)
class Diffusion(Path):
    """Denoising diffusion with v-prediction (arXiv 2202.00512) on 1,000 levels, as EchoNet-Synthetic and MCDM have it.

    z = sqrt(a) x + sqrt(1 - a) noise, v = sqrt(a) noise - sqrt(1 - a) x; a: running product of 1 - beta, beta rising
    linearly. Level k is time k / levels. offset: noise that all places of a clip's channel share, times this. clip: of
    the data that a sampler goes by; None: not clipped.
    """

    levels: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 0.02
    offset: float = 0.1
    clip: float | None = 4.0

    @functools.cached_property
    def alphas_cumprod(self) -> torch.Tensor:
        """a of every level."""
        return (1 - torch.linspace(self.first_beta, self.last_beta, self.levels, dtype=torch.float32)).cumprod(0)

    def noise(self, draw_B: torch.Tensor, *shape: int) -> torch.Tensor:
        channels = shape[0]
        drawn_BN = super().noise(draw_B, channels + torch.Size(shape).numel())
        shared_BC = drawn_BN[:, :channels].unflatten(1, (channels, *[1] * (len(shape) - 1)))
        return drawn_BN[:, channels:].unflatten(1, shape) + self.offset * shared_BC

    def times(self, draw_B: torch.Tensor) -> Times:
        level_B = integers(draw_B, high=self.levels, stream=Stream.NOISE_LEVEL)
        time_B = level_B.float() / self.levels
        return Times(time_B=time_B, interval_B=torch.zeros_like(time_B))

    def noisy(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        signal, spread = self.shares(time_B)
        return signal * data_BCTHW + spread * noise_BCTHW

    def target(self, data_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        """v."""
        signal, spread = self.shares(time_B)
        return signal * noise_BCTHW - spread * data_BCTHW

    def data(self, output_BCTHW: torch.Tensor, noisy_BCTHW: torch.Tensor, time_B: torch.Tensor) -> torch.Tensor:
        signal, spread = self.shares(time_B)
        data_BCTHW = signal * noisy_BCTHW - spread * output_BCTHW
        return data_BCTHW if self.clip is None else data_BCTHW.clamp(-self.clip, self.clip)

    def shares(self, time_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """sqrt(a) and sqrt(1 - a), each (B, 1, 1, 1, 1)."""
        level_B = (time_B * self.levels).round().long()
        alpha = per_clip(self.alphas_cumprod.to(time_B.device)[level_B])
        return alpha.sqrt(), (1 - alpha).sqrt()


@dataclass(frozen=True, kw_only=True)
class AverageVelocity(Flow):
    """The network predicts u, the mean velocity from time t down to r: z_r = z_t - (t - r) u. MeanFlow, 2505.13447.

    By its identity u = v - (t - r) du/dt, along (v, 1) in (z, t). Weighted by 1 / (error + 1e-3)^0.5, plus the squared
    error of the data that it stands for, as EchoLVFM (arXiv 2603.13967) has it. r is t in `plain` of the clips, drawn
    for each clip (published: for each batch). du/dt by forward-mode AD, which wants plain attention.
    """

    two_times: ClassVar[bool] = True
    data_noise: float = 0.0
    level: LogitNormal | None = LogitNormal(mean=-0.4, std=1.0)
    plain: float = 0.75
    reconstruction: float = 1.0

    def times(self, draw_B: torch.Tensor) -> Times:
        first_B, second_B = self.shifted((self.level or _uniform)(draw_B, 2)).unbind(1)
        plain_B = bernoulli(draw_B, probability=self.plain, stream=Stream.INTERVAL)
        time_B, start_B = torch.maximum(first_B, second_B), torch.minimum(first_B, second_B)
        time_B = torch.where(plain_B, first_B, time_B)
        return Times(time_B=time_B, interval_B=torch.where(plain_B, 0.0, time_B - start_B))

    def loss_B(
        self,
        predict: Predict,
        data_BCTHW: torch.Tensor,
        noise_BCTHW: torch.Tensor,
        times: Times,
        valid_BT: torch.Tensor,
    ) -> torch.Tensor:
        noisy_BCTHW, velocity = (made(data_BCTHW, noise_BCTHW, times.time_B) for made in (self.noisy, self.target))
        mean_velocity, change = with_change(predict, noisy_BCTHW, times, velocity)
        interval, time = per_clip(times.interval_B), per_clip(times.time_B)
        error_B = mean_square_B(mean_velocity - (velocity - interval * change), valid_BT)
        found = noisy_BCTHW - time * (mean_velocity + interval * change)
        weight_B = (error_B.detach() + 1e-3).rsqrt()
        return weight_B * error_B + self.reconstruction * mean_square_B(found - data_BCTHW, valid_BT)


def with_change(
    predict: Predict, noisy_BCTHW: torch.Tensor, times: Times, velocity_BCTHW: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Its output and, without gradient, its change with t at a fixed end: along (v, 1, 1) of (z, t, t - r)."""
    one_B = torch.ones_like(times.time_B)
    with sdpa_kernel(SDPBackend.MATH):
        output, change = torch.func.jvp(  # type: ignore[misc]
            predict, (noisy_BCTHW, times.time_B, times.interval_B), (velocity_BCTHW, one_B, one_B)
        )
    return output, change.detach()


def mean_square_B(error_BCTHW: torch.Tensor, valid_BT: torch.Tensor) -> torch.Tensor:
    """Mean over a clip's valid frames; what the others hold is no matter."""
    square_BT = error_BCTHW.square().mean((1, 3, 4))
    return square_BT.where(valid_BT, 0).sum(1) / valid_BT.sum(1)


def per_clip(value_B: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1, 1)."""
    return value_B[:, None, None, None, None]
