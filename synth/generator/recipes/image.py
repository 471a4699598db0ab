"""Train a generator of single frames by view, and by label map."""

from __future__ import annotations

from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from synth.generator.building import trainer_of
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig

_FRAME = DataConfig(frames=1, frame_rate_hz=None)


def demo() -> GeneratorRecipe:
    """4 M parameters on 16 x 16 latents (4x, 64 pixels): half an hour on two CPU cores, estimated.

    echofm synth train image demo --data SHARDS --codec RUN/export --out RUN
    """
    return GeneratorRecipe(
        name="demo",
        network=NetworkConfig(width=192, depth=6, heads=3, patch=2, attention="full"),
        conditions=("view",),
        data=_FRAME,
        fit=FitConfig(
            steps=3000, batch=32, workers=0, save_every=250, ema_decay=0.998,
            optim=OptimConfig(base_lr=8e-3, warmup_steps=50, weight_decay=0.0, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=500, clips=8),
    )  # fmt: skip


def base() -> GeneratorRecipe:
    """33 M parameters (DiT-S/2 with AdaLN) on 28 x 28 latents (4x, 112 pixels), one GPU.

    echofm synth train image base --data SHARDS --codec RUN/export --out RUN
    """
    return GeneratorRecipe(
        name="base",
        network=NetworkConfig(width=384, depth=12, heads=6, patch=2, attention="full"),
        conditions=("view",),
        data=_FRAME,
        fit=FitConfig(
            steps=100_000, batch=256, precision="bf16", workers=6, ema_decay=0.9999,
            optim=OptimConfig(base_lr=3e-4, warmup_steps=1000, weight_decay=0.0, max_grad_norm=1.0),
        ),
    )  # fmt: skip


def published() -> GeneratorRecipe:
    """EchoNet-Synthetic's image model by its schedule (arXiv 2406.00808): v-prediction, batch 256, 500,000 steps.

    torchrun --nproc_per_node 8 --no-python echofm synth train image published --data SHARDS --codec RUN/export

    The network is ours (DiT-B/2) in place of the 2-D U-Net, and no noise is shared by a channel, as there.
    """
    return GeneratorRecipe(
        name="published",
        network=NetworkConfig(width=768, depth=12, heads=12, patch=2, attention="full"),
        path="diffusion",
        conditions=("view",),
        data=_FRAME,
        fit=FitConfig(
            steps=500_000, batch=256, precision="bf16", workers=6, ema_decay=0.9999,
            optim=OptimConfig(base_lr=3e-4, warmup_steps=500, min_lr_ratio=1.0, weight_decay=0.01, max_grad_norm=1.0),
        ),
    )  # fmt: skip


TRAINER = trainer_of("image", __doc__ or "", demo, base, published)
