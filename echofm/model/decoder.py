"""The decoder: hidden tubelets from the visible tokens.

Shapes: B clips, K visible tokens, M hidden ones, D encoder width, E decoder width, V values of a tubelet's target.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from echofm.model.attention import Block, initialise, run_block
from echofm.model.tokens import Grid, SpaceTimePositions


class Decoder(nn.Module):
    """A shallow transformer over visible tokens and mask tokens (arXiv 2111.06377).

    Attention does not know the order of its rows, so they stay as they come: class token, visible, hidden. Nothing
    is scattered back into place, and the rows that need no prediction end before those that do.
    """

    def __init__(
        self,
        *,
        grid: Grid,
        encoder_width: int,
        width: int,
        depth: int,
        heads: int,
        values: int,
        mlp_ratio: float,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.recompute = False
        self.embed = nn.Linear(encoder_width, width)
        self.positions = SpaceTimePositions(grid=grid, width=width)
        self.cls = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.mask = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        shape: dict[str, Any] = {"heads": heads, "mlp_ratio": mlp_ratio, "norm_eps": norm_eps}
        self.blocks = nn.ModuleList(Block(width, **shape) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.pred = nn.Linear(width, values)
        initialise(self)

    def forward(
        self,
        tokens_BKD: torch.Tensor,
        visible_BK: torch.Tensor,
        hidden_BM: torch.Tensor,
        *,
        grid: Grid,
        hidden_only: bool,
    ) -> torch.Tensor:
        """Predictions (B, K + M, V) of visible, then hidden tokens; with `hidden_only` (B, M, V) for less work."""
        visible = self.embed(tokens_BKD) + self.positions(grid, visible_BK)
        hidden = (self.mask + self.positions(grid, hidden_BM)).to(visible.dtype)
        cls = (self.cls + self.positions.cls).to(visible.dtype).expand(len(visible), -1, -1)
        x = torch.cat([cls, visible, hidden], dim=1)
        first = 1 + visible_BK.shape[1] if hidden_only else 1
        for block in self.blocks[:-1]:
            x = run_block(block, x, recompute=self.recompute)
        # The last block's rows are read by nobody but the prediction.
        asked = run_block(self.blocks[-1], x, x[:, first:], recompute=self.recompute)
        return self.pred(self.norm(asked))
