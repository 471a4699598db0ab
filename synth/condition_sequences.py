"""Fields of a Condition that are several vectors of frozen networks: the encoder's, a motion network's.

Shapes: as of Condition; D is the network's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.errors import EchofmError
from synth.condition import Condition
from synth.condition_field import Field, Sizes


class _Several(Field):
    """N vectors of a clip, which the task reads by a frozen network."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.count, self.numbers = sizes.tokens[self.field]
        if self.count < 2:
            raise EchofmError(
                f"{self.field} has one token, which cross-attention cannot tell from a constant; give several "
                "(one for each position or time)"
            )

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {}

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        return {self.field: torch.full((clips, self.count, self.numbers), math.nan)}

    def check(self, condition: Condition) -> None:
        value_BND = getattr(condition, self.field)
        if value_BND is not None and tuple(value_BND.shape[1:]) != (self.count, self.numbers):
            given, wanted = tuple(value_BND.shape[1:]), (self.count, self.numbers)
            raise EchofmError(f"{self.field} has {given} tokens and numbers a clip, the generator takes {wanted}")


class Embedding(_Several):
    """embedding: of the EchoFM encoder, the mean of each time's tokens; attended to, each at its learned place."""

    field, way = "embedding_BND", "tokens"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.map = nn.Linear(self.numbers, sizes.width)
        self.place = nn.Parameter(0.02 * torch.randn(self.count, sizes.width))
        self.null = nn.Parameter(0.02 * torch.randn(self.count, sizes.width))

    def forward(self, condition: Condition) -> torch.Tensor:
        value_BND = condition.embedding_BND
        assert value_BND is not None
        known_B11 = value_BND.isfinite().flatten(1).all(1)[:, None, None]
        return torch.where(known_B11, self.map(value_BND.nan_to_num().float()) + self.place, self.null)


class Motion(_Several):
    """motion: of a motion network, at times spread over the clip; each frame is told the nearest one's (AdaLN)."""

    field = "motion_BND"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.map = nn.Sequential(nn.LayerNorm(self.numbers), nn.Linear(self.numbers, sizes.width))
        self.size = nn.Linear(1, sizes.width)
        self.null = nn.Parameter(torch.zeros(sizes.width))

    def forward(self, condition: Condition) -> torch.Tensor:
        value_BND = condition.motion_BND
        assert value_BND is not None
        known_B11 = value_BND.isfinite().flatten(1).all(1)[:, None, None]
        value_BND = value_BND.nan_to_num().float()
        # The norm takes off how large a motion is, which is what an ejection fraction is about.
        large_BN1 = value_BND.square().mean(-1, keepdim=True).add(1e-6).sqrt()
        return torch.where(known_B11, self.map(value_BND) + self.size(large_BN1), self.null)
