"""What colour hides of a clip: where it lies, and simple guesses of what is under it.

Shapes: B clips, C channels, T frames, H rows, W columns; N frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Spread of R, G and B of saturated colour, as the readers have it; and of what lies beside such, its faded rim.
_COLOURED, _TINTED = 60 / 255, 24 / 255
_GROWN, _LEVELS = 3, 5
_LEAST = 1e-6


def colour_mask(video_BCTHW: torch.Tensor, sector_BHW: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, H, W) bool: the pixels of RGB clips in [0, 1] that colour covers, with its rim, in the sector.

    Colour is what is saturated (`echofm.readers.kinds`), and what is tinted up to 6 pixels from it; one pixel more on
    each side is covered too, as resizing and lossy codecs mix it.
    """
    brightest, darkest = video_BCTHW.amax(1), video_BCTHW.amin(1)
    spread_BTHW = brightest - darkest
    strong = (spread_BTHW > _COLOURED) & (darkest < 0.4 * brightest)
    tinted = (spread_BTHW > _TINTED) & (darkest < 0.6 * brightest)
    found = strong
    for _ in range(_GROWN):
        found = strong | (tinted & _widened(found, 2))
    return (_widened(found, 1) & sector_BHW[:, None])[:, None]


def _widened(mask_BTHW: torch.Tensor, by: int) -> torch.Tensor:
    return F.max_pool2d(mask_BTHW.float(), 2 * by + 1, stride=1, padding=by) > 0


def luma(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, H, W) BT.601 luma in [0, 1]; grey as it is."""
    if video_BCTHW.shape[1] == 1:
        return video_BCTHW
    red, green, blue = (19595 / 65536) * video_BCTHW[:, :1], video_BCTHW[:, 1:2], video_BCTHW[:, 2:]
    return red + (38470 / 65536) * green + (7471 / 65536) * blue


def filled(grey_B1THW: torch.Tensor, known_B1THW: torch.Tensor) -> torch.Tensor:
    """Blurred fill-in: unknown pixels from the known ones of their frame, by push and pull over halved pictures.

    Gortler et al. 1996, doi 10.1145/237170.237200. Known pixels stay.
    """
    shape, known = grey_B1THW.shape, known_B1THW.flatten(0, 2)[:, None].to(grey_B1THW.dtype)
    return _push_pull(grey_B1THW.flatten(0, 2)[:, None], known, levels=_LEVELS).view(shape)


def _push_pull(grey_N1HW: torch.Tensor, weight_N1HW: torch.Tensor, *, levels: int) -> torch.Tensor:
    if levels == 0 or min(grey_N1HW.shape[-2:]) < 2:
        mean = (grey_N1HW * weight_N1HW).sum((2, 3), keepdim=True) / weight_N1HW.sum((2, 3), keepdim=True).clamp(
            min=_LEAST
        )
        return weight_N1HW * grey_N1HW + (1 - weight_N1HW) * mean
    pooled = F.avg_pool2d(weight_N1HW, 2, ceil_mode=True)
    coarse = F.avg_pool2d(grey_N1HW * weight_N1HW, 2, ceil_mode=True) / pooled.clamp(min=_LEAST)
    below = _push_pull(coarse, (4 * pooled).clamp(max=1), levels=levels - 1)
    wide = F.interpolate(below, grey_N1HW.shape[-2:], mode="bilinear", align_corners=False)
    return weight_N1HW * grey_N1HW + (1 - weight_N1HW) * wide


def remembered(grey_B1THW: torch.Tensor, known_B1THW: torch.Tensor, *, reach: int) -> torch.Tensor:
    """Unknown pixels as the mean of what was known there up to `reach` frames before and after; else as they are."""
    known = known_B1THW.to(grey_B1THW.dtype)
    width = 2 * reach + 1
    sums = [
        F.avg_pool3d(F.pad(each, (0, 0, 0, 0, reach, reach)), (width, 1, 1), stride=1)
        for each in (grey_B1THW * known, known)
    ]
    seen = sums[0] / sums[1].clamp(min=_LEAST)
    return torch.where(known_B1THW | (sums[1] < _LEAST), grey_B1THW, seen)
