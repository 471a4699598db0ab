"""The learning rate as a pure function of the step, so that nothing about it needs saving."""

from __future__ import annotations

import math


def half_cosine(progress: float) -> float:
    """(1 + cos(pi x)) / 2: 1 where `progress` x is 0, 0 where it is 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def lr_at(step: int, *, steps: int, peak: float, warmup_steps: int = 0, min_ratio: float = 0.0) -> float:
    """Learning rate of update `step` (1 is the first, `steps` the last): linear warm-up, then half a cosine.

    lr = peak * step / warmup_steps while step <= warmup_steps, afterwards
    peak * (f + (1 - f) * (1 + cos(pi * x)) / 2), where x runs from 0 at the end of the warm-up to 1 one step
    after `steps` (so that the last step still learns) and f is `min_ratio`
    (SGDR without restarts, https://arxiv.org/abs/1608.03983, eq. 5).
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps + 1)
    return peak * (min_ratio + (1 - min_ratio) * half_cosine(progress))
