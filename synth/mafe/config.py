"""What decides a MAFE on an encoder: its encoder and the sizes of its heads. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from echofm.contract import InputContract
from echofm.model.config import EncoderConfig
from echofm.schema import FrozenModel

_Width = Annotated[int, Field(gt=0, le=4096)]


class HeadsConfig(FrozenModel):
    """The heads on the encoder."""

    width: _Width = 32
    """Channels of the fine features beside the encoder's tokens."""
    heads: _Width = 4
    """Of the attention between frames, each of which gives a displacement."""
    head_width: _Width = 16
    """Numbers by which a head compares two places."""
    hidden: _Width = 48
    """Channels of the decoder."""
    appearance: _Width = 128
    """Numbers of the appearance vector."""
    cells: Annotated[int, Field(gt=0, le=64)] = 4
    """Rows and columns of the coarse grid that motion is kept on."""
    frozen: bool = True
    """Leave the encoder's weights as they are; False fine-tunes them too."""


class MafeConfig(FrozenModel):
    """Everything that decides its tensors and what it computes."""

    encoder: EncoderConfig
    """The encoder whose tokens the heads read."""
    heads: HeadsConfig = HeadsConfig()
    frame_rate_hz: Annotated[float, Field(gt=0, le=1000)] | None = 25.0
    """Of the windows that features are taken from."""

    @model_validator(mode="after")
    def _quarters(self) -> MafeConfig:
        if self.encoder.size % 16:
            raise ValueError(f"frames of {self.encoder.size} pixels: sides must be multiples of 16")
        return self

    @property
    def contract(self) -> InputContract:
        """The windows that features are taken from."""
        return InputContract(size=self.encoder.size, frames=self.encoder.frames, frame_rate_hz=self.frame_rate_hz)
