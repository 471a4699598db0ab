"""Train a generator of clips by ejection fraction whose network is called once for a clip."""

from __future__ import annotations

from echofm.engine.config import FitConfig, OptimConfig
from synth.generator.building import trainer_of
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig
from synth.generator.recipes import video_ef


def demo() -> GeneratorRecipe:
    """2.7 M parameters on 16 frames of 16 x 16 latents (4x, 64 pixels): an hour on two CPU cores, estimated.

    echofm synth train video-onestep demo --data SHARDS --codec RUN/export --out RUN
    """
    return video_ef.demo().model_copy(update={"path": "average-velocity"})


def base() -> GeneratorRecipe:
    """45 M parameters on 32 frames of 28 x 28 latents (4x, 112 pixels), one GPU.

    echofm synth train video-onestep base --data SHARDS --codec RUN/export --out RUN
    """
    return video_ef.base().model_copy(update={"path": "average-velocity"})


def published() -> GeneratorRecipe:
    """EchoLVFM (arXiv 2603.13967): mean velocity on 32 frames of 28 x 28 latents (4x), batch 2, 400,000 steps.

    echofm synth train video-onestep published --data SHARDS --codec RUN/export

    The network is ours, in place of a U-Net; r is t in three quarters of the clips (published: of the batches).
    """
    return GeneratorRecipe(
        name="published",
        network=NetworkConfig(width=384, depth=12, heads=6, patch=2),
        path="average-velocity",
        conditions=("ef", "view", "reference"),
        data=DataConfig(frames=32, frame_rate_hz=25),
        fit=FitConfig(
            steps=400_000, batch=2, workers=4, ema_decay=0.9999,
            optim=OptimConfig(base_lr=6.4e-3, warmup_steps=500, weight_decay=0.01, max_grad_norm=1.0),
        ),
    )  # fmt: skip


TRAINER = trainer_of("video-onestep", __doc__ or "", demo, base, published)
