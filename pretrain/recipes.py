"""Pretraining recipes: each function is one, its docstring says the command, the cost and what to expect."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pydantic
import tyro

from echofm.config import Recipe
from echofm.contract import InputContract
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from echofm.model.config import SIZES, MaskingConfig, NetworkConfig, ObjectiveConfig, require_learnable
from echofm.schema import FrozenModel

# 0 as published: benchmarks/results-phantom.md has what it is worth.
_PHASE_CENTRE = 0.9


class DataConfig(FrozenModel):
    """What a training clip is. Its frames, size and channels are the model's."""

    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=25.0, gt=0)
    """Frames per second of a window; None: consecutive frames as stored."""
    gain: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Brightness varies per clip by a factor in [1 - gain, 1 + gain]."""
    contrast: float = pydantic.Field(default=0.0, ge=0, lt=2)
    """Grey values are raised, per clip, to a power in [2^-contrast, 2^contrast]."""
    acoustic: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Most strength of attenuation, shadows, gain, haze, dropout and speckle (echofm.acoustic), drawn per clip."""


class PretrainRecipe(Recipe):
    """One pretraining run, whole but for the data and the folder."""

    rounding_on_resume: ClassVar[frozenset[str]] = frozenset(["grad_checkpointing"])

    network: NetworkConfig
    """Encoder and decoder."""
    masking: MaskingConfig = MaskingConfig()
    """What is hidden from the encoder."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The losses."""
    grad_checkpointing: bool = False
    """Keep no activations inside the blocks: less memory, one more forward pass; the same result."""
    data: DataConfig = DataConfig()
    """What a training clip is."""

    @property
    def contract(self) -> InputContract:
        """What clips the model takes."""
        clips = self.network.model_dump(include={"size", "frames", "channels"})
        return InputContract(frame_rate_hz=self.data.frame_rate_hz, **clips)

    @pydantic.model_validator(mode="after")
    def _can_learn(self) -> PretrainRecipe:
        require_learnable(self.network, self.masking, self.objective)
        if self.objective.clip_contrast.weight and self.fit.batch < 2:
            raise ValueError("--objective.clip-contrast.weight tells a clip from others: give --fit.batch 2 or more")
        if self.objective.latent.weight and self.fit.ema_decay is None:
            raise ValueError("--objective.latent.weight predicts a running mean's features: give --fit.ema-decay 0.998")
        return self


def demo() -> PretrainRecipe:
    """A small encoder in two minutes on two CPU cores, to see everything work.

    echofm pretrain demo --data SHARDS --out RUN
    """
    return PretrainRecipe(
        name="demo",
        network=NetworkConfig(
            size=64, frames=32, channels=1, patch=8, tubelet=2, width=96, depth=3, heads=3,
            decoder_width=64, decoder_depth=1, decoder_heads=2, predicted_frames=16, phase_centre=_PHASE_CENTRE,
        ),
        masking=MaskingConfig(decode_ratio=0.5),
        fit=FitConfig(
            steps=680, batch=8, workers=0, save_every=100, log_every=5,
            optim=OptimConfig(base_lr=1.6e-2, warmup_steps=20, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=100, clips=8),
    )  # fmt: skip


def tiny() -> PretrainRecipe:
    """3.5 M parameters, 112^2 with patch 8: hours on a few CPU cores, minutes on a GPU.

    echofm pretrain tiny --data SHARDS --out RUN
    """
    return PretrainRecipe(
        name="tiny",
        network=SIZES["tiny"].model_copy(update={"phase_centre": _PHASE_CENTRE}),
        fit=FitConfig(steps=10_000, batch=32, optim=OptimConfig(base_lr=4e-3, warmup_steps=500)),
        monitor=MonitorConfig(every=500),
    )


def small() -> PretrainRecipe:
    """27 M parameters (ViT-S), 112^2 with patch 8, one GPU; 430 epochs of EchoNet-Dynamic.

    echofm pretrain small --data SHARDS --out RUN
    """
    return PretrainRecipe(
        name="small",
        network=SIZES["small"].model_copy(update={"phase_centre": _PHASE_CENTRE}),
        data=DataConfig(gain=0.2, contrast=0.3),
        fit=FitConfig(
            steps=50_000, batch=64, precision="bf16", workers=4, optim=OptimConfig(base_lr=2e-3, warmup_steps=2_500)
        ),
    )


def base() -> PretrainRecipe:
    """121 M parameters (ViT-B/16), 32 frames of 224^2, the published losses and optimizer.

    torchrun --nproc_per_node 8 --no-python echofm pretrain base --data SHARDS --out RUN
    """
    return PretrainRecipe(
        name="base",
        network=SIZES["base"],
        fit=FitConfig(steps=200_000, batch=64, precision="bf16", workers=6, optim=OptimConfig(warmup_steps=10_000)),
    )


def large() -> PretrainRecipe:
    """345 M parameters (ViT-L/16), 32 frames of 224^2: the published hyper-parameters (arXiv 2410.23413).

    torchrun --nproc_per_node 8 --no-python echofm pretrain large --data SHARDS --out RUN

    The paper's batch of 8 GPUs x 8 clips (with fewer, --fit.accumulate gives the same result) and its 100 epochs of
    290,000 videos. Warm-up and frame rate are not in the paper: 32 frames at 25 Hz show a beat above 47 bpm.
    """
    return PretrainRecipe(
        name="large",
        network=SIZES["large"],
        fit=FitConfig(steps=450_000, batch=64, precision="bf16", workers=6, optim=OptimConfig(warmup_steps=22_500)),
    )


RECIPES = {recipe.__name__: recipe for recipe in (demo, tiny, small, base, large)}
