"""What an autoencoder is and what it is trained for. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
import tyro

from echofm.config import Recipe
from echofm.contract import InputContract
from echofm.schema import FrozenModel


class AutoencoderConfig(FrozenModel):
    """diffusers' AutoencoderKL on frames of clips, and how pixels enter it."""

    size: int = pydantic.Field(default=64, gt=0, le=1024)
    """Rows and columns of a frame, pixels."""
    channels: tyro.conf.Suppress[Literal[1]] = 1
    """Of the clips: grey."""
    patch: int = pydantic.Field(default=1, ge=1, le=8)
    """Pixels a side that enter the network side by side, as channels; 1: none. Each doubling takes a quarter of the
    time at full size."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of each level; between two levels rows and columns halve."""
    blocks: int = pydantic.Field(default=1, ge=1)
    """Residual blocks of a level; the decoder's have one more."""
    latent_channels: int = pydantic.Field(default=4, ge=1)
    """Channels of the latents."""
    norm_groups: tyro.conf.Suppress[int] = pydantic.Field(default=8, ge=1)
    """Groups of the group normalisation."""
    middle_attention: bool = True
    """Self-attention between the places of the smallest level."""
    grey_as: Literal[1, 3] = 1
    """Channels over which grey is repeated inside, as released networks want it."""
    grey_unit: tyro.conf.Suppress[float] = pydantic.Field(default=127.5, gt=0)
    """The network sees grey / unit - 1, grey from 0 to 255."""

    @property
    def scale(self) -> int:
        """Pixels a side for each latent."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def contract(self) -> InputContract:
        """Of a single frame: any number is taken."""
        return InputContract(size=self.size, frames=1, channels=self.channels)

    @pydantic.model_validator(mode="after")
    def _fits(self) -> AutoencoderConfig:
        if not self.widths or self.size % self.scale:
            raise ValueError(f"frames of {self.size} do not divide into latents of {self.scale} pixels a side")
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"widths are multiples of {self.norm_groups}")
        return self


class AdversaryConfig(FrozenModel):
    """The patch discriminator and when it begins."""

    weight: float = pydantic.Field(default=0.5, ge=0)
    """Share of its gradient in that of the rest, at the decoder's last layer; 0: no discriminator."""
    start_step: int = pydantic.Field(default=1000, ge=1)
    """The first step that it takes part in."""
    width: int = pydantic.Field(default=64, ge=8)
    """Channels of its first layer."""
    layers: int = pydantic.Field(default=3, ge=1)
    """Layers that halve rows and columns."""


class LossConfig(FrozenModel):
    """Of a frame: reduction over pixels of (l1 |x - y| + l2 (x - y)^2 + perceptual distance) + kl * KL."""

    l1: float = pydantic.Field(default=1.0, ge=0)
    """Weight of the absolute error, grey from -1 to 1."""
    l2: float = pydantic.Field(default=1.0, ge=0)
    """Weight of the squared error."""
    perceptual: float = pydantic.Field(default=1.0, ge=0)
    """Weight of the distance in the features of --encoder or --lpips, where one is given."""
    kl: float = pydantic.Field(default=4e-4, ge=0)
    """Weight of the latents' divergence from a normal distribution, nats a frame."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over a frame's pixels; mean divides all of the loss by their number. sum: as published."""


class DataConfig(FrozenModel):
    """Which frames of a clip are in a batch."""

    frames: int = pydantic.Field(default=4, ge=1)
    """Frames of each clip."""
    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=None, gt=0)
    """How far apart they are; None: consecutive as stored. With --encoder: as that was trained."""
    gain: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Brightness varies per clip by a factor in [1 - gain, 1 + gain]."""
    contrast: float = pydantic.Field(default=0.0, ge=0, lt=2)
    """Grey values are raised, per clip, to a power in [2^-contrast, 2^contrast]."""


class LatentRecipe(Recipe):
    """One training of an autoencoder, whole but for the data and the folder."""

    network: AutoencoderConfig
    """The autoencoder."""
    adversary: AdversaryConfig = AdversaryConfig()
    """The discriminator that it is trained against."""
    objective: LossConfig = LossConfig()
    """The losses."""
    data: DataConfig = DataConfig()
    """Which frames are in a batch."""
