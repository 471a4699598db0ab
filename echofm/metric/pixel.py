"""How far a picture is from another, pixel by pixel."""

from __future__ import annotations

import torch


def psnr_db(found_BCTHW: torch.Tensor, true_BCTHW: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each clip, values in [0, 1]: -10 log10 of its mean squared error, at most 120.

    (B,).
    """
    error_B = (found_BCTHW - true_BCTHW).square().flatten(1).mean(1)
    return -10 * error_B.clamp(min=1e-12).log10()
