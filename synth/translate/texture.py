"""Losses of the texture under the mask, where pixels cannot be predicted but their statistics can.

Shapes: B clips, T frames, H rows, W columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_WINDOW = 5
_LEAST_VARIANCE = 1e-4


def energy_score(first: torch.Tensor, second: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(|x - y| + |x' - y| - |x - x'|) / 2 of two draws x, x' and the truth y, pixel by pixel.

    The continuous ranked probability score: least where draws spread as the truth does (Gneiting and Raftery 2007,
    doi 10.1198/016214506000001437, equation 21), so that a network which ignores its noise loses.
    """
    return ((first - true).abs() + (second - true).abs() - (first - second).abs()) / 2


def local_mean(video_B1THW: torch.Tensor, weight_B1THW: torch.Tensor) -> torch.Tensor:
    """The weighted mean over 5 x 5 pixels round each pixel of a frame; 0 where nothing has weight."""
    return _pooled(video_B1THW * weight_B1THW) / _pooled(weight_B1THW).clamp(min=1e-6)


def local_spread(video_B1THW: torch.Tensor, weight_B1THW: torch.Tensor) -> torch.Tensor:
    """The standard deviation over the same pixels, sqrt(variance + 1e-4)."""
    mean = local_mean(video_B1THW, weight_B1THW)
    variance = local_mean(video_B1THW.square(), weight_B1THW) - mean.square()
    return (variance.clamp(min=0) + _LEAST_VARIANCE).sqrt()


def _pooled(values_B1THW: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(values_B1THW[:, 0], _WINDOW, stride=1, padding=_WINDOW // 2)[:, None]
