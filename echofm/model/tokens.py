"""Tubelets and their positions: cut a clip into tokens, embed the chosen ones, add to each where it lies.

Shapes: B clips, C channels, T frames, H rows, W columns; N tokens of a clip, K of them chosen; D width.
Tokens count time outermost, then rows, then columns: id = (t * rows + row) * columns + column.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError


class Grid(NamedTuple):
    """How many tokens a clip has along each axis."""

    time: int
    rows: int
    columns: int

    @property
    def space(self) -> int:
        """Tokens of one time index."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens of the clip."""
        return self.time * self.space


def grid_of(video_BCTHW: torch.Tensor, *, tubelet: int, patch: int) -> Grid:
    """The token grid of a clip. Raises EchofmError where tubelets of (tubelet, patch, patch) do not tile it."""
    frames, height, width = video_BCTHW.shape[2:]
    if frames % tubelet or height % patch or width % patch:
        raise EchofmError(
            f"a clip of {frames} frames of {height}x{width} is not tiled by tubelets of {tubelet} frames and "
            f"{patch}x{patch} pixels; choose frames and size as multiples of these"
        )
    return Grid(frames // tubelet, height // patch, width // patch)


def cut(
    video_BCTHW: torch.Tensor,
    ids_BK: torch.Tensor | None = None,
    *,
    tubelet: int,
    patch: int,
    channels_last: bool = False,
) -> torch.Tensor:
    """Tubelets as vectors (B, N, tubelet * patch * patch * C); with `ids_BK` only those, and only they are copied.

    A vector runs over (channel, frame, row, column), or with `channels_last` over (frame, row, column, channel).
    """
    grid = grid_of(video_BCTHW, tubelet=tubelet, patch=patch)
    axes = video_BCTHW.unflatten(4, (-1, patch)).unflatten(3, (-1, patch)).unflatten(2, (-1, tubelet))
    # axes: B C time s rows p columns q
    inside = (3, 5, 7, 1) if channels_last else (1, 3, 5, 7)
    tubelets = axes.permute(0, 2, 4, 6, *inside)
    if ids_BK is None:
        return tubelets.flatten(1, 3).flatten(2)
    clip_B1 = torch.arange(len(ids_BK), device=ids_BK.device)[:, None]
    time, row, column = ids_BK // grid.space, ids_BK % grid.space // grid.columns, ids_BK % grid.columns
    return tubelets[clip_B1, time, row, column].flatten(2)


class TubeletEmbedding(nn.Module):
    """A clip's tubelets, each projected to the model's width.

    The same map as a Conv3d whose kernel is its stride, but the tubelets are cut first, so that hidden ones cost
    nothing; `proj.weight` is the Conv3d's weight flattened over (channel, frame, row, column).
    """

    def __init__(self, *, channels: int, tubelet: int, patch: int, width: int) -> None:
        super().__init__()
        self.tubelet, self.patch = tubelet, patch
        self.proj = nn.Linear(channels * tubelet * patch**2, width)

    def forward(self, video_BCTHW: torch.Tensor, ids_BK: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings (B, N, D) without positions; with `ids_BK` of these tokens alone, in their order."""
        return self.proj(cut(video_BCTHW, ids_BK, tubelet=self.tubelet, patch=self.patch))


class SpaceTimePositions(nn.Module):
    """Learned positions: one table over space, one over time, added; and one vector for the class token."""

    def __init__(self, *, grid: Grid, width: int) -> None:
        super().__init__()
        self.grid = grid
        self.space = nn.Parameter(torch.empty(1, grid.space, width))
        self.time = nn.Parameter(torch.empty(1, grid.time, width))
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        for table in (self.space, self.time, self.cls):
            nn.init.normal_(table, std=0.02)

    def forward(self, grid: Grid, ids_BK: torch.Tensor | None = None) -> torch.Tensor:
        """Positions (1, N, D) of all tokens of `grid`, or (B, K, D) of those in `ids_BK`."""
        space_LD, time_TD = self.tables(grid)
        if ids_BK is None:
            return (time_TD[:, None] + space_LD[None]).flatten(0, 1)[None]
        return F.embedding(ids_BK % grid.space, space_LD) + F.embedding(ids_BK // grid.space, time_TD)

    def tables(self, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        """Both tables, interpolated where `grid` is not the one learned: bicubic in space, linear in time."""
        space_LD, time_TD = self.space[0], self.time[0]
        if (grid.rows, grid.columns) != (self.grid.rows, self.grid.columns):
            learned_1DHW = space_LD.T.unflatten(1, (self.grid.rows, self.grid.columns))[None].float()
            size = (grid.rows, grid.columns)
            resized_1DHW = F.interpolate(learned_1DHW, size, mode="bicubic", antialias=True, align_corners=False)
            space_LD = resized_1DHW[0].flatten(1).T.to(space_LD.dtype)
        if grid.time != self.grid.time:
            learned_1DT = time_TD.T[None].float()
            resized_1DT = F.interpolate(learned_1DT, grid.time, mode="linear", align_corners=False)
            time_TD = resized_1DT[0].T.to(time_TD.dtype)
        return space_LD, time_TD
