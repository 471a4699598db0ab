"""What a field of a Condition is to a network: the base of the classes in condition_fields and condition_sequences.

Shapes: as of Condition; D is the network's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pydantic
import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.schema import FrozenModel
from echofm.shards.carry import Carry
from synth.condition import Condition


class Sizes(FrozenModel):
    """What a field may need to know of its network and data."""

    width: int
    """Of the network."""
    latent: tuple[int, int, int]
    """Channels, rows and columns of the latents."""
    views: tuple[str, ...] = ()
    """Those of the training clips."""
    words: tuple[str, ...] = ()
    """That a text may hold."""
    tokens: dict[str, tuple[int, int]] = pydantic.Field(default_factory=dict)
    """Of each field that is attended to, how many of how many numbers."""


class Field(nn.Module):
    """One field of Condition.

    field: its attribute there. carry: what it takes from shards. way: its way in. channels: that it adds.
    """

    field: ClassVar[str]
    carry: ClassVar[tuple[Carry, ...]] = ()
    way: ClassVar[Literal["vector", "tokens", "channels"]] = "vector"
    channels: int = 0

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        """Its fields of Condition, of a batch of training clips whose video is latents."""
        raise NotImplementedError

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        """The same where nothing is asked, for clips of latents (C, T, H, W)."""
        return {self.field: torch.full((clips,), math.nan)}

    def check(self, condition: Condition) -> None:
        """Raises EchofmError where what is asked cannot be."""

    def forward(self, condition: Condition) -> torch.Tensor:
        """(B, T or 1, D), (B, N, D) or (B, C, T, H, W), by its way."""
        raise NotImplementedError
