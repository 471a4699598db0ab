"""Clips longer than a network's window: overlapping windows, denoised together.

At every step each window is predicted under its own frames' condition, and what windows say of the same frame is
blended, so that neighbours agree. Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from synth.conditioner import Encoded
from synth.generator.path import Predict


def starts(frames: int, window: int) -> list[int]:
    """First frames of the windows over a clip: half of each lies on the one before, the last ends with the clip."""
    if frames <= window:
        return [0]
    step = max(1, window // 2)
    return [*range(0, frames - window, step), frames - window]


def across(predictor: Callable[[Encoded], Predict], encoded: Encoded, *, window: int) -> Predict:
    """The predictor over clips of any length. encoded: the whole clips' condition."""
    whole = predictor(encoded)

    def predict(noisy: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
        frames = noisy.shape[2]
        if frames <= window:
            return whole(noisy, time_B, interval_B)
        total, weights_T = torch.zeros_like(noisy), noisy.new_zeros(frames)
        # Least at a window's ends, where it knows least of what comes before or after.
        own_T = 1 + torch.minimum(torch.arange(window), torch.arange(window).flip(0)).to(noisy)
        for first in starts(frames, window):
            part = slice(first, first + window)
            # A window holds all clips in their order, so each clip's windows have that clip's condition.
            found = predictor(encoded.window(first, window))(noisy[:, :, part], time_B, interval_B)
            total[:, :, part] += found * own_T[:, None, None]
            weights_T[part] += own_T
        return total / weights_T[:, None, None]

    return predict
