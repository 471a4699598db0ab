"""Laplacian-pyramid loss: how far two images are apart, by octave.

B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def laplacian_pyramid(image_BCHW: torch.Tensor, *, levels: int, lowest: bool) -> list[torch.Tensor]:
    """What each octave adds, finest first; last, where `lowest`, what is left: without it brightness is not seen.

    The sides must halve evenly `levels` times. 5x5 binomial kernel, borders reflected.
    """
    kernel_55 = _kernel(image_BCHW)
    pyramid, current = [], image_BCHW
    for _ in range(levels):
        assert not (current.shape[2] % 2 or current.shape[3] % 2), "the sides of an octave are even"
        down = _filtered(current, kernel_55)[:, :, ::2, ::2]
        pyramid.append(current - _filtered(_zeros_between(down), 4 * kernel_55))
        current = down
    return [*pyramid, current] if lowest else pyramid


def pyramid_l1(
    one_BCHW: torch.Tensor, other_BCHW: torch.Tensor, *, levels: int = 4, lowest: bool = False
) -> torch.Tensor:
    """(B,) sum over octaves of the mean absolute difference.

    Published: without the lowest octave, so that one image 0.2 brighter than the other costs 1e-7.
    """
    pairs = [laplacian_pyramid(image, levels=levels, lowest=lowest) for image in (one_BCHW, other_BCHW)]
    return torch.stack([(one - other).abs().mean((1, 2, 3)) for one, other in zip(*pairs)]).sum(0)


def most_levels(side: int, *, most: int = 4) -> int:
    """Octaves that a side allows: it must halve evenly, and the reflected border needs three pixels."""
    levels = 0
    while levels < most and side % 2 == 0 and side > 4:
        side, levels = side // 2, levels + 1
    return levels


def _kernel(like: torch.Tensor) -> torch.Tensor:
    row_5 = like.new_tensor(_BINOMIAL) / sum(_BINOMIAL)
    return row_5[:, None] * row_5


def _filtered(image_BCHW: torch.Tensor, kernel_55: torch.Tensor) -> torch.Tensor:
    channels = image_BCHW.shape[1]
    padded = F.pad(image_BCHW, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, kernel_55.expand(channels, 1, 5, 5), groups=channels)


def _zeros_between(image_BCHW: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = image_BCHW.shape
    wide = image_BCHW.new_zeros(batch, channels, 2 * height, 2 * width)
    wide[:, :, ::2, ::2] = image_BCHW
    return wide
