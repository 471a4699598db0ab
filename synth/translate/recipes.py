"""Recipes of translators: each function is one, its docstring says the command, the cost and what to expect."""

from __future__ import annotations

from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from synth.latent.config import AdversaryConfig
from synth.translate.config import DataConfig, TranslateRecipe, TranslatorConfig


def demo() -> TranslateRecipe:
    """64 pixels, ten minutes on one CPU core.

    echofm synth train translate demo --data SHARDS --out RUN
    """
    return TranslateRecipe(
        name="demo",
        network=TranslatorConfig(),
        texture_step=501,
        adversary=AdversaryConfig(start_step=601, width=16, layers=2),
        fit=FitConfig(
            steps=1000,
            batch=4,
            workers=0,
            save_every=100,
            ema_decay=0.98,
            optim=OptimConfig(base_lr=0.192, warmup_steps=20, weight_decay=0.0, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=250, clips=8),
    )


def base() -> TranslateRecipe:
    """224 pixels, 9 M weights, one GPU; not yet measured.

    echofm synth train translate base --data SHARDS --encoder E --out RUN
    """
    return TranslateRecipe(
        name="base",
        network=TranslatorConfig(
            size=224, structure_widths=(96, 192, 384), texture_widths=(64, 96, 192), norm_groups=8
        ),
        texture_step=20_001,
        adversary=AdversaryConfig(start_step=22_001),
        data=DataConfig(frames=16),
        fit=FitConfig(
            steps=60_000,
            batch=16,
            precision="bf16",
            workers=6,
            ema_decay=0.999,
            optim=OptimConfig(base_lr=6.4e-3, warmup_steps=1000, weight_decay=0.0, max_grad_norm=1.0),
        ),
    )


RECIPES = {recipe.__name__: recipe for recipe in (demo, base)}
