"""ControlNet (Zhang et al., ICCV 2023, arXiv 2302.05543) on a transformer: a branch beside a frozen generator.

Shapes: B clips, T frames, S places of a frame, N tokens of the condition, D width; C, H, W of the branch's channels.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn


class ControlBranch(nn.Module):
    """The first half of a transformer's blocks once more, shown further channels; what it says is added to theirs.

    What leads in and out is zero at first: the generator then does exactly what it did.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, width: int, numbers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(numbers, width)
        self.blocks = nn.ModuleList(copy.deepcopy(list(blocks[: (len(blocks) + 1) // 2])))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in self.blocks)
        for layer in (self.embed, *self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def begin_from(self, blocks: Sequence[nn.Module]) -> None:
        """Take these blocks' weights over."""
        for own, other in zip(self.blocks, blocks):
            own.load_state_dict(other.state_dict())

    def forward(
        self, x_BTSD: torch.Tensor, c_BTD: torch.Tensor, tokens_BND: torch.Tensor | None, shown_BTSC: torch.Tensor
    ) -> list[torch.Tensor]:
        """What is added after each of the first blocks, each (B, T, S, D)."""
        x_BTSD = x_BTSD + self.embed(shown_BTSC)
        added = []
        for block, out in zip(self.blocks, self.out):
            x_BTSD = block(x_BTSD, c_BTD, tokens_BND)
            added.append(out(x_BTSD))
        return added
