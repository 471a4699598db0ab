"""SpaceTimeUnet: a small U-Net whose blocks see a frame's neighbours in space and in time.

Shapes: N frames of B clips one after another, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class SpaceTimeUnet(nn.Module):
    """(B, C, T, H, W) to (B, 1, T, H, W), the frame before and after seen at growing distance on coarser levels.

    Normalised frame by frame, so that a frame depends on those at most `reach` away, and on no batch or length.
    patch: pixels a side that enter side by side. The last layer begins at 0.
    """

    def __init__(self, *, channels: int, widths: tuple[int, ...], patch: int, groups: int) -> None:
        super().__init__()
        self.patch, levels = patch, range(len(widths))
        self.first = nn.Conv2d(channels * patch**2, widths[0], 3, padding=1)
        steps = [(widths[0], widths[0]), *pairwise(widths)]
        self.down = nn.ModuleList(_Block(*step, groups=groups, apart=2**level) for level, step in zip(levels, steps))
        rising = list(zip(levels, pairwise(widths)))[::-1]
        self.up = nn.ModuleList(
            _Block(coarse + fine, fine, groups=groups, apart=2**level) for level, (fine, coarse) in rising
        )
        self.norm = nn.GroupNorm(groups, widths[0])
        self.last = nn.Conv2d(widths[0], patch**2, 3, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)
        self.reach = sum(block.apart for block in (*self.down, *self.up) if isinstance(block, _Block))

    def forward(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Rows and columns divide by patch * 2^(levels - 1)."""
        frames = video_BCTHW.shape[2]
        x = self.first(F.pixel_unshuffle(video_BCTHW.transpose(1, 2).flatten(0, 1), self.patch))
        kept: list[torch.Tensor] = []
        for block in self.down:
            x = block(F.avg_pool2d(x, 2) if kept else x, frames)
            kept.append(x)
        kept.pop()
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), kept.pop()], 1), frames)
        output = F.pixel_shuffle(self.last(F.silu(self.norm(x))).float(), self.patch)
        return output.unflatten(0, (-1, frames)).transpose(1, 2)


class _Block(nn.Module):
    """Residual: 3 x 3 in space, then three frames `apart` frames from one another, then 3 x 3 again."""

    def __init__(self, before: int, after: int, *, groups: int, apart: int) -> None:
        super().__init__()
        self.apart = apart
        self.norms = nn.ModuleList(nn.GroupNorm(groups, width) for width in (before, after, after))
        self.space = nn.Conv2d(before, after, 3, padding=1)
        self.time = nn.Conv2d(3 * after, after, 1)
        self.mix = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x_NCHW: torch.Tensor, frames: int) -> torch.Tensor:
        first, second, third = self.norms
        x = self.space(F.silu(first(x_NCHW)))
        x = x + self.time(_with_neighbours(F.silu(second(x)), frames, self.apart))
        return self.skip(x_NCHW) + self.mix(F.silu(third(x)))


def _with_neighbours(x_NCHW: torch.Tensor, frames: int, apart: int) -> torch.Tensor:
    """Each frame with those `apart` before and after it, at the ends the outermost ones, as channels."""
    x_BTCHW = x_NCHW.unflatten(0, (-1, frames))
    frame_T = torch.arange(frames, device=x_NCHW.device)
    before, after = (x_BTCHW[:, (frame_T + shift).clamp(0, frames - 1)] for shift in (-apart, apart))
    return torch.cat([before, x_BTCHW, after], 2).flatten(0, 1)
