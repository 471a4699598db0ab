"""What a translator is and what it is trained for. Imports no torch."""

from __future__ import annotations

from typing import Annotated

import pydantic
import tyro

from echofm.config import Recipe
from echofm.contract import InputContract
from echofm.schema import FrozenModel
from synth.latent.config import AdversaryConfig


class TranslatorConfig(FrozenModel):
    """Two space-time U-Nets."""

    size: int = pydantic.Field(default=64, gt=0, le=1024)
    """Rows and columns of a frame, pixels."""
    patch: int = pydantic.Field(default=2, ge=1, le=8)
    """Pixels a side that enter the networks side by side, as channels."""
    structure_widths: tuple[int, ...] = (24, 32, 48)
    """Channels of the first network's levels; between two levels rows and columns halve."""
    texture_widths: tuple[int, ...] = (16, 24, 32)
    """Channels of the second network's levels."""
    norm_groups: tyro.conf.Suppress[int] = pydantic.Field(default=4, ge=1)
    """Groups of the group normalisation, of each frame by itself."""

    @property
    def contract(self) -> InputContract:
        """Of a single frame: any number is taken."""
        return InputContract(size=self.size, frames=1, channels=3, colour="rgb")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> TranslatorConfig:
        for widths in (self.structure_widths, self.texture_widths):
            cell = self.patch * 2 ** (len(widths) - 1)
            if not widths or self.size % cell:
                raise ValueError(f"frames of {self.size} do not divide into cells of {cell} pixels a side")
            if any(width % self.norm_groups for width in widths):
                raise ValueError(f"widths are multiples of {self.norm_groups}")
        return self


class LossConfig(FrozenModel):
    """Of hidden pixels; grey from 0 to 1."""

    perceptual: float = pydantic.Field(default=0.1, ge=0)
    """Weight of the distance in the features of --encoder, where one is given."""
    spread: float = pydantic.Field(default=1.0, ge=0)
    """Of the texture: weight of the error of the local standard deviation."""


class DataConfig(FrozenModel):
    """Which frames of a clip are in a batch."""

    frames: int = pydantic.Field(default=8, ge=2)
    """Frames of each clip."""
    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=None, gt=0)
    """How far apart they are; None: consecutive as stored. With --encoder: as that was trained."""


class TranslateRecipe(Recipe):
    """One training of a translator, whole but for the data and the folder."""

    network: TranslatorConfig
    """The two networks."""
    texture_step: int = pydantic.Field(default=1000, ge=1)
    """The first step of the texture network, when the structure has taken shape."""
    adversary: AdversaryConfig = AdversaryConfig()
    """The discriminator of the texture."""
    objective: LossConfig = LossConfig()
    """The losses beside the absolute error."""
    data: DataConfig = DataConfig()
    """Which frames are in a batch."""

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> TranslateRecipe:
        if self.adversary.start_step < self.texture_step:
            raise ValueError(
                f"the discriminator (step {self.adversary.start_step}) begins before the texture that it judges "
                f"(step {self.texture_step})"
            )
        return self
