"""What a generator's training is but for its data: the network, the path, the conditions. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic
import tyro

from echofm.config import Recipe
from echofm.schema import FrozenModel

PathName = Literal["flow", "data-flow", "diffusion", "average-velocity"]


class NetworkConfig(FrozenModel):
    """A space-time diffusion transformer, or diffusers' UNetSpatioTemporalConditionModel as published."""

    kind: Literal["transformer", "unet"] = "transformer"
    """Ours for any size and length, or that of EchoNet-Synthetic and MCDM."""
    width: int = pydantic.Field(default=192, gt=0)
    """Numbers of a token; of the U-Net's first level (published: 128)."""
    depth: int = pydantic.Field(default=6, gt=0)
    """Blocks; of the U-Net layers of a level (published: 2)."""
    heads: int = pydantic.Field(default=3, gt=0)
    """Attention heads of the transformer; the U-Net has one for every 16 numbers."""
    patch: int = pydantic.Field(default=2, gt=0)
    """Rows and columns of latents in a token of the transformer."""
    attention: Literal["factorised", "full"] = "factorised"
    """Over space, then over time; or over both at once, at a cost that grows with the square of the frames."""
    grad_checkpointing: bool = False
    """Keep no activations inside the blocks: less memory, one more forward pass; the same result."""


class RepaConfig(FrozenModel):
    """Alignment of hidden tokens with a frozen encoder's, arXiv 2410.06940 and 2512.10794."""

    weight: float = pydantic.Field(default=0.0, ge=0)
    """Of one less the cosine; 0: no alignment."""
    depth: float = pydantic.Field(default=0.34, gt=0, le=1)
    """Share of the blocks after which tokens are aligned."""
    until: float = pydantic.Field(default=0.7, gt=0, le=1)
    """Share of the steps after which it ends: late in training it holds the generator back."""


class DataConfig(FrozenModel):
    """What a training clip is. Its size is the codec's."""

    frames: int = pydantic.Field(default=16, ge=1)
    """Frames of a window; 1: an image."""
    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=12.5, gt=0)
    """Frames per second of a window; None: consecutive frames as stored."""


class GeneratorRecipe(Recipe):
    """One generator's training, whole but for data, codec and folder."""

    takes_latents: ClassVar[bool] = True
    rounding_on_resume: ClassVar[frozenset[str]] = frozenset(["grad_checkpointing"])

    network: NetworkConfig = NetworkConfig()
    """What predicts."""
    path: PathName = "flow"
    """From noise to data: linear flow; the same by its data; v-prediction; mean velocity, for one step."""
    shift: float = pydantic.Field(default=1.0, gt=0)
    """Of a flow's times, in training and sampling: above 1 more of them near noise, where motion is decided."""
    conditions: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """What clips may be asked for: ef, heart-rate, frame-rate, phase, view, time-point, text, embedding, motion,
    label-map, reference."""
    control: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Conditions of pixels that enter by a ControlNet branch on the generator --base, whose own settings stay."""
    dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Share of the clips whose conditions are not shown, all together and each alone: what guidance needs."""
    reference_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Share of the clips whose reference frame is not shown: what clips of no patient's frame need."""
    repa: RepaConfig = RepaConfig()
    """Alignment with the encoder."""
    data: DataConfig = DataConfig()
    """What a training clip is."""
