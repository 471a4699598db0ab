"""FinetuneRecipe: everything about a fine-tuning but its encoder, its label and its data. Imports no torch."""

from __future__ import annotations

import pydantic

from echofm.config import Recipe
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig


class FinetuneRecipe(Recipe):
    """One fine-tuning, begun at the linear probe (Kumar et al. 2022, arXiv 2202.10054)."""

    layer_decay: float = pydantic.Field(default=0.75, gt=0, le=1)
    """Learning rate of a block over that of the next one (Bao et al. 2021, arXiv 2106.08254)."""
    gain: float = pydantic.Field(default=0.1, ge=0, lt=1)
    """Brightness varies per clip by a factor in [1 - gain, 1 + gain]."""
    contrast: float = pydantic.Field(default=0.1, ge=0, lt=2)
    """Grey values are raised, per clip, to a power in [2^-contrast, 2^contrast]."""
    target: str = ""
    """The label."""
    encoder_digest: str = ""
    """Of what it begins from, so that a run goes on from the same."""


def default(*, steps: int, batch: int, lr: float, layer_decay: float, seed: int, workers: int) -> FinetuneRecipe:
    """The recipe of `echofm finetune`. lr: peak, of the head and the last block at this batch."""
    optim = OptimConfig(
        base_lr=lr * 256 / batch, warmup_steps=max(1, steps // 10), beta2=0.999, weight_decay=0.05, max_grad_norm=1.0
    )
    fit = FitConfig(
        steps=steps, batch=batch, optim=optim, ema_decay=0.99, seed=seed, workers=workers, save_every=max(1, steps // 4)
    )
    return FinetuneRecipe(name="finetune", fit=fit, monitor=MonitorConfig(every=0), layer_decay=layer_decay)
