"""PatchDiscriminator: scores each patch of a frame, high where it takes it for real."""

from __future__ import annotations

import itertools

import torch
from torch import nn

_WIDEST = 8


class PatchDiscriminator(nn.Sequential):
    """PatchGAN (Isola et al. 2017, arXiv 1611.07004): (N, C, H, W) to scores (N, 1, h, w).

    Group normalisation in place of the published batch normalisation, by which a frame's score would depend on the
    frames beside it and on how the batch is cut.

    width: channels of the first layer, doubled up to eight times; a multiple of 8. layers: that halve the sides.
    """

    def __init__(self, *, channels: int, width: int, layers: int) -> None:
        widths = [width * min(2**level, _WIDEST) for level in range(layers + 1)]
        found: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level, (before, after) in enumerate(itertools.pairwise(widths)):
            stride = 2 if level < layers - 1 else 1
            found += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(8, after),
                nn.LeakyReLU(0.2),
            ]
        # No bias: within the hinge's margins real and output frames pull it equally, and AdamW would follow the
        # round-off.
        super().__init__(*found, nn.Conv2d(widths[-1], 1, 4, padding=1, bias=False))
        self.apply(_initialise)

    def forward(self, frames_NCHW: torch.Tensor) -> torch.Tensor:
        """Scores of the patches."""
        return super().forward(frames_NCHW).float()


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, std=0.02)
