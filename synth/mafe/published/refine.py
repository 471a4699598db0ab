"""The published refinement: a U-Net over the images and the warped appearance of every stage."""

from __future__ import annotations

import torch
from torch import nn


class _Down(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.PReLU(width))
        self.conv2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x_BCHW))


def _up(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, width, 4, stride=2, padding=1), nn.PReLU(width))


class Refinement(nn.Module):
    """Four levels down and up; every level down is given the warped appearance of its size, both frames' (B, C, h, w).

    stages: channels of the five stages of appearance. base: half the first level's width.
    """

    def __init__(self, stages: tuple[int, ...], base: int) -> None:
        super().__init__()
        inputs = 17
        for level in range(4):
            width = 2 ** (level + 1) * base
            self.add_module(f"down{level}", _Down(inputs + 2 * stages[level], width))
            inputs = width
        self.up0 = _up(16 * base + 2 * stages[4], 8 * base)
        for level in (1, 2, 3):
            width = 2 ** (3 - level) * base
            self.add_module(f"up{level}", _up(4 * width, width))
        self.conv = nn.Conv2d(base, 3, 3, padding=1)

    def forward(self, images_BCHW: torch.Tensor, first: list[torch.Tensor], last: list[torch.Tensor]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1]. images: both frames, both warped, mask logit, flow; first, last: warped features."""
        x, kept = images_BCHW, []
        for level in range(4):
            x = self.get_submodule(f"down{level}")(torch.cat([x, first[level], last[level]], 1))
            kept.append(x)
        x = self.up0(torch.cat([x, first[4], last[4]], 1))
        for level in (1, 2, 3):
            x = self.get_submodule(f"up{level}")(torch.cat([x, kept[3 - level]], 1))
        return self.conv(x).sigmoid()
