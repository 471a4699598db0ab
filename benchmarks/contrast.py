"""What the contrast of clips costs: a training step of the recipe `demo` with it against one without."""

from __future__ import annotations

import functools
import time

import torch

from benchmarks.pair import fused_optimizer, training_step
from benchmarks.timing import Clock, Row, Variant, alternate
from echofm.model.config import ClipContrastConfig, ObjectiveConfig
from echofm.model.mae import VideoMae
from pretrain.recipes import RECIPES


def contrast_rows(*, rounds: int, clock: Clock = time.perf_counter) -> list[Row]:
    """Seconds a clip of one update, without the contrast and with 4 and 8 views of each clip."""
    plain, *others = (_variant(views) for views in (0, 4, 8))
    return alternate(plain, others, rounds=rounds, clock=clock)


def _variant(views: int) -> Variant:
    recipe = RECIPES["demo"]()
    contrast = ClipContrastConfig(weight=1, views=views) if views else ClipContrastConfig()
    network = recipe.network
    net = VideoMae(network, recipe.masking, ObjectiveConfig(clip_contrast=contrast))
    shape = (recipe.fit.batch, network.channels, network.frames, network.size, network.size)
    video_BCTHW = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    draw_B = torch.arange(recipe.fit.batch)
    return Variant(
        name=f"step demo fp32, {views} views of each clip",
        run=functools.partial(
            training_step, net, fused_optimizer(net), lambda: net(video_BCTHW, draw_B=draw_B, hidden_only=True).loss
        ),
        clips=recipe.fit.batch,
        note="baseline: the same step without the contrast of clips",
    )
