"""A tiny autoencoder and its training on small hearts, for the tests of codecs and of what works in them."""

from __future__ import annotations

from typing import Any

import torch

from echofm.engine.config import OptimConfig
from synth.latent.autoencoder import Autoencoder
from synth.latent.config import AdversaryConfig, AutoencoderConfig, LatentRecipe
from synth.latent.recipes import RECIPES

SIZE, START = 16, 11


def tiny_config(**changes: Any) -> AutoencoderConfig:
    return AutoencoderConfig(
        **{"size": SIZE, "patch": 2, "widths": (8, 8), "norm_groups": 4, "middle_attention": False, **changes}
    )


def tiny_autoencoder(*, seed: int = 0, **changes: Any) -> Autoencoder:
    """Untrained, with made-up means and deviations of its latents."""
    torch.manual_seed(seed)
    net = Autoencoder(tiny_config(**changes))
    net.mean_C.normal_()
    net.std_C.uniform_(0.5, 2.0)
    return net


def tiny_recipe(**fit: Any) -> LatentRecipe:
    """Twenty steps, the adversary from the eleventh on."""
    recipe = RECIPES["demo"]()
    optim = OptimConfig(base_lr=0.3, warmup_steps=2, weight_decay=0.0, max_grad_norm=1.0)
    settings = {
        "steps": 20,
        "batch": 4,
        "workers": 0,
        "save_every": 5,
        "log_every": 1,
        "ema_decay": 0.9,
        "optim": optim,
    }
    return LatentRecipe(
        name="demo",
        network=tiny_config(),
        adversary=AdversaryConfig(start_step=START, width=8, layers=1),
        data=recipe.data.model_copy(update={"frames": 2, "frame_rate_hz": 6.25}),
        fit=recipe.fit.model_copy(update=settings | fit),
        monitor=recipe.monitor.model_copy(update={"every": 10, "clips": 2}),
    )
