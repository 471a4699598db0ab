"""Train a generator of clips by ejection fraction, from a reference frame or none."""

from __future__ import annotations

from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from synth.generator.building import trainer_of
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig

# The phase makes the ejection fraction count: the network knows in which frames the ventricle is to be small.
_CONDITIONS = ("ef", "phase", "view", "reference")
_SHIFT, _HIDDEN = 4.0, 0.4


def demo() -> GeneratorRecipe:
    """2.6 M parameters on 16 frames of 16 x 16 latents (4x, 64 pixels): half an hour on two CPU cores, estimated.

    echofm synth train video-ef demo --data SHARDS --codec RUN/export --out RUN
    """
    return GeneratorRecipe(
        name="demo",
        network=NetworkConfig(width=128, depth=6, heads=4, patch=4),
        shift=_SHIFT,
        conditions=_CONDITIONS,
        reference_dropout=_HIDDEN,
        fit=FitConfig(
            steps=3000, batch=8, workers=0, save_every=250, ema_decay=0.998,
            optim=OptimConfig(base_lr=3.2e-2, warmup_steps=50, weight_decay=0.0, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=500, clips=8),
    )  # fmt: skip


def base() -> GeneratorRecipe:
    """45 M parameters on 32 frames of 28 x 28 latents (4x, 112 pixels), one GPU.

    echofm synth train video-ef base --data SHARDS --codec RUN/export --out RUN
    """
    return GeneratorRecipe(
        name="base",
        network=NetworkConfig(width=384, depth=12, heads=6, patch=2),
        shift=_SHIFT,
        conditions=_CONDITIONS,
        reference_dropout=_HIDDEN,
        data=DataConfig(frames=32, frame_rate_hz=25),
        fit=FitConfig(
            steps=50_000, batch=32, precision="bf16", workers=6, ema_decay=0.9995,
            optim=OptimConfig(base_lr=2.4e-3, warmup_steps=1000, weight_decay=0.0, max_grad_norm=1.0),
        ),
    )  # fmt: skip


def published() -> GeneratorRecipe:
    """EchoNet-Synthetic's video model (arXiv 2406.00808): U-Net, v-prediction, 64 frames at 32 Hz of 14 x 14 latents.

    torchrun --nproc_per_node 8 --no-python echofm synth train video-ef published --data SHARDS --codec RUN/export

    Batch 16 on each of 8 GPUs. Unlike there, the condition is several tokens (one is a constant in cross-attention),
    its dropout is applied, and padded frames count for nothing.
    """
    return GeneratorRecipe(
        name="published",
        network=NetworkConfig(kind="unet", width=128, depth=2),
        path="diffusion",
        conditions=("ef", "reference"),
        data=DataConfig(frames=64, frame_rate_hz=32),
        fit=FitConfig(
            steps=500_000, batch=128, precision="bf16", workers=6, ema_decay=0.9999,
            optim=OptimConfig(base_lr=2e-4, warmup_steps=500, min_lr_ratio=1.0, weight_decay=0.01, max_grad_norm=1.0),
        ),
    )  # fmt: skip


TRAINER = trainer_of("video-ef", __doc__ or "", demo, base, published)
