"""Reconstruction of hidden tubelets: which frames, which values, which error. Pure functions.

Shapes: B clips, C channels, T frames, H rows, W columns; M tubelets, V values of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def target_frames(frames: int, predicted: int) -> torch.Tensor:
    """Indices (predicted,) of the frames to predict: evenly spaced from first to last, cut to whole frames.

    32 and 8 give 0, 4, 8, 13, 17, 22, 26, 31, as in the published code of arXiv 2410.23413.
    """
    return torch.linspace(0, frames - 1, predicted).long()


def median_filtered(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """Each pixel's median over its 3x3 neighbourhood in its frame, edge pixels repeated.

    Speckle cannot be predicted; a target without it asks for anatomy alone (EchoCardMAE).
    """
    height, width = video_BCTHW.shape[-2:]
    padded = F.pad(video_BCTHW.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    shifts = [padded[..., row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return torch.stack(shifts).median(dim=0).values.unflatten(0, video_BCTHW.shape[:2])


def patch_normalised(target_BMV: torch.Tensor, *, eps: float = 1e-6) -> torch.Tensor:
    """(x - mean) / sqrt(variance + eps) within each tubelet, variance with n - 1 (arXiv 2111.06377, section 4)."""
    variance, mean = torch.var_mean(target_BMV, dim=-1, keepdim=True)
    return (target_BMV - mean) / (variance + eps).sqrt()


def reconstruction_sum(
    pred_BMV: torch.Tensor, target_BMV: torch.Tensor, *, weight_BM: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum over tubelets of the mean squared error of one; divide by their number, or by the sum of the weights."""
    error_BM = (pred_BMV - target_BMV).square().mean(dim=-1)
    return (error_BM if weight_BM is None else error_BM * weight_BM).sum()


def touches_sector(sector_BHW: torch.Tensor, *, patch: int) -> torch.Tensor:
    """(B, patches) bool: does any pixel of the patch lie in the ultrasound sector?"""
    return F.max_pool2d(sector_BHW[:, None].float(), patch).flatten(1) > 0
