"""The decoder: hidden tubelets from the visible tokens.

Shapes: B clips, K visible tokens, M hidden ones, D encoder width, E decoder width.
"""

from __future__ import annotations

import torch
from torch import nn

from echofm.model.attention import Block, initialise, run_block
from echofm.model.config import NetworkConfig
from echofm.model.tokens import Grid, SpaceTimePositions


class Decoder(nn.Module):
    """A shallow transformer over visible tokens and mask tokens (arXiv 2111.06377).

    Attention does not know the order of its rows, so they stay as they come: class token, visible, hidden. Nothing
    is scattered back into place, and the rows that need no prediction end before those that do.
    """

    def __init__(self, network: NetworkConfig, *, grid: Grid) -> None:
        super().__init__()
        self.grad_checkpointing = False
        width, norm_eps = network.decoder_width, network.norm_eps
        values = network.predicted_frames // network.times * network.patch**2 * network.channels
        self.embed = nn.Linear(network.width, width)
        self.positions = SpaceTimePositions(grid=grid, width=width)
        self.cls = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.mask = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            Block(width, heads=network.decoder_heads, mlp_ratio=network.mlp_ratio, norm_eps=norm_eps)
            for _ in range(network.decoder_depth)
        )
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
        """What `pred` reads: (B, K + M, E) of visible, then hidden tokens; with `hidden_only` (B, M, E), less work."""
        visible = self.embed(tokens_BKD) + self.positions(grid, visible_BK)
        hidden = (self.mask + self.positions(grid, hidden_BM)).to(visible.dtype)
        cls = (self.cls + self.positions.cls).to(visible.dtype).expand(len(visible), -1, -1)
        x = torch.cat([cls, visible, hidden], dim=1)
        first = 1 + visible_BK.shape[1] if hidden_only else 1
        for block in self.blocks[:-1]:
            x = run_block(block, x, grad_checkpointing=self.grad_checkpointing)
        # Nothing but the prediction reads the last block's rows.
        out = run_block(self.blocks[-1], x, x[:, first:], grad_checkpointing=self.grad_checkpointing)
        return self.norm(out)
