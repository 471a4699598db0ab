"""Train a generator of clips by motion: one heart's anatomy moved as another's."""

from __future__ import annotations

from synth.generator.building import trainer_of
from synth.generator.config import DataConfig, GeneratorRecipe
from synth.generator.recipes import video_ef

_CONDITIONS = ("motion", "view", "reference")


def demo() -> GeneratorRecipe:
    """2.6 M parameters on 16 frames of 16 x 16 latents (4x, 64 pixels): half an hour on two CPU cores, estimated.

    echofm synth train video-motion demo --data SHARDS --codec RUN/export --motion RUN --out RUN
    """
    return video_ef.demo().model_copy(update={"conditions": _CONDITIONS})


def base() -> GeneratorRecipe:
    """45 M parameters on 32 frames of 28 x 28 latents (4x, 112 pixels), one GPU.

    echofm synth train video-motion base --data SHARDS --codec RUN/export --motion RUN --out RUN
    """
    return video_ef.base().model_copy(update={"conditions": _CONDITIONS})


def published() -> GeneratorRecipe:
    """MCDM's video model (arXiv 2512.09418): U-Net, v-prediction, 64 frames at 16 Hz of 14 x 14 latents.

    torchrun --nproc_per_node 2 --no-python echofm synth train video-motion published --data SHARDS --codec RUN/export
        --motion RUN

    Unlike there, the motion is that of every time and place (its mean over space loses a contraction), told frame by
    frame (one token is a constant in cross-attention), and dropped in a tenth of the clips.
    """
    recipe = video_ef.published()
    optim = recipe.fit.optim.model_copy(update={"base_lr": 8e-4})
    changes = {
        "conditions": ("motion", "reference"),
        "data": DataConfig(frames=64, frame_rate_hz=16),
        "fit": recipe.fit.model_copy(update={"steps": 1_000_000, "batch": 32, "optim": optim}),
    }
    return recipe.model_copy(update=changes)


TRAINER = trainer_of("video-motion", __doc__ or "", demo, base, published)
