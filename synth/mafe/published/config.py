"""What decides the published frame-pair network: widths, depths, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from echofm.schema import FrozenModel

_Width = Annotated[int, Field(gt=0, le=4096)]
_Five = Annotated[tuple[int, ...], Field(min_length=5, max_length=5)]
_Two = Annotated[tuple[int, ...], Field(min_length=2, max_length=2)]


class PublishedConfig(FrozenModel):
    """EMA-VFI (arXiv 2303.00440) as MAFE trains it (arXiv 2512.09418); the defaults are the published ones."""

    window: Annotated[int, Field(gt=1, le=64)] = 7
    """Rows and columns of a window of attention."""
    embed_dims: _Five = (32, 64, 128, 256, 512)
    """Channels of the five stages: three of convolutions, two of attention."""
    depths: _Five = (2, 2, 2, 4, 4)
    """Convolutions or blocks of each."""
    motion_dims: _Five = (0, 0, 0, 64, 128)
    """Motion channels of a block."""
    num_heads: _Two = (8, 16)
    """Of the attention in stages 4 and 5."""
    mlp_ratio: _Width = 4
    qkv_bias: bool = True
    block_norm_eps: float = 1e-6
    patch_embed_norm_eps: float = 1e-5
    refine_c: _Width = 64
    """Base width of the refinement."""
    head_hidden: _Two = (128, 128)
    """Channels inside the two flow heads."""
    scales: _Two = (16, 8)
    """Of the stage that each head reads, image pixels per place."""

    @model_validator(mode="after")
    def _divides(self) -> PublishedConfig:
        for width, motion, heads in zip(self.embed_dims[3:], self.motion_dims[3:], self.num_heads):
            if width % heads or motion % heads:
                raise ValueError(f"{heads} heads do not divide {width} channels and {motion} of motion")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PublishedConfig:
        """From a mapping that may hold more than the network's own settings. Raises EchofmError naming the field."""
        known = {name: value for name, value in values.items() if name in cls.model_fields}
        return cls.checked(known, where="the network's config")
