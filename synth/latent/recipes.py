"""Recipes of autoencoders: each function is one, its docstring says the command, the cost and what to expect."""

from __future__ import annotations

from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from synth.latent.config import AdversaryConfig, AutoencoderConfig, DataConfig, LatentRecipe, LossConfig


def demo() -> LatentRecipe:
    """4x to 4 channels at 64 pixels, minutes on two CPU cores.

    echofm synth train latent demo --data SHARDS --out RUN

    33.9 dB [33.7, 34.2] on 96 held-out phantom patients stored at 112 pixels (the best four numbers for each 4 x 4
    pixels without a network: 29.2), where shards made them 64. A phantom rendered at 64 has speckle of single pixels,
    of which less is kept (26.0 without a network). No adversary; `--adversary.weight 0.5 --adversary.start-step 800`
    adds one.
    """
    return LatentRecipe(
        name="demo",
        network=AutoencoderConfig(size=64, patch=4, widths=(64,), middle_attention=False),
        adversary=AdversaryConfig(weight=0.0, start_step=800, width=32, layers=2),
        # Of sixteen clips one frame each: four frames of one clip are alike.
        data=DataConfig(frames=1),
        fit=FitConfig(
            steps=2400,
            batch=16,
            workers=0,
            save_every=100,
            ema_decay=0.99,
            optim=OptimConfig(base_lr=0.096, warmup_steps=20, weight_decay=0.0, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=100, clips=8),
    )


def base() -> LatentRecipe:
    """4x to 4 channels at 112 pixels, 20 M parameters, one GPU; not yet measured.

    echofm synth train latent base --data SHARDS --encoder E --out RUN
    """
    return LatentRecipe(
        name="base",
        network=AutoencoderConfig(size=112, widths=(128, 256, 256), blocks=2, norm_groups=32),
        adversary=AdversaryConfig(weight=0.0, start_step=20_001),
        data=DataConfig(frames=4, frame_rate_hz=12.5, gain=0.2, contrast=0.3),
        fit=FitConfig(
            steps=40_000,
            batch=16,
            precision="bf16",
            workers=6,
            ema_decay=0.999,
            optim=OptimConfig(base_lr=3.2e-3, warmup_steps=1000, weight_decay=0.0, max_grad_norm=1.0),
        ),
    )


def published() -> LatentRecipe:
    """8x to 4 channels at 112 pixels, 62 M parameters: EchoNet-Synthetic's (arXiv 2406.00808).

    torchrun --nproc_per_node 8 --no-python echofm synth train latent published --data SHARDS --lpips FILE --out RUN

    Grey over three channels, sums over pixels, the adversary from step 50,001, constant rate of 1e-3, 512 frames a
    step; every fifth frame at 50 frames a second. Theirs took five days of eight A100. Other than theirs: the training
    split alone is seen (theirs saw all patients), and the discriminator's norm is by groups.
    """
    return LatentRecipe(
        name="published",
        network=AutoencoderConfig(size=112, widths=(128, 256, 256, 512), blocks=2, norm_groups=32, grey_as=3),
        adversary=AdversaryConfig(start_step=50_001),
        objective=LossConfig(l2=0.0, kl=1e-6, reduction="sum"),
        data=DataConfig(frames=8, frame_rate_hz=10.0),
        fit=FitConfig(
            steps=200_000,
            batch=64,
            workers=6,
            optim=OptimConfig(
                base_lr=4e-3, min_lr_ratio=1.0, beta1=0.5, beta2=0.9, weight_decay=0.0, max_grad_norm=None
            ),
        ),
    )


RECIPES = {recipe.__name__: recipe for recipe in (demo, base, published)}
