"""Recipes of motion features: each function is one, its docstring says the command, the cost and what to expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import pydantic
import tyro

from echofm.config import Recipe
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from echofm.schema import FrozenModel
from synth.mafe.config import HeadsConfig
from synth.mafe.flow import FlowKind
from synth.mafe.published.config import PublishedConfig


class TeachersConfig(FrozenModel):
    """Who teaches, and how much it counts."""

    flow: FlowKind = "dis"
    """OpenCV's dense inverse search, or torchvision's RAFT with its published weights."""
    flow_weight: float = pydantic.Field(default=0.3, ge=0)
    """Of the distance to the teacher's flow, per pixel; 0: no flow teacher's loss."""
    identity_weight: float = pydantic.Field(default=0.3, ge=0)
    """Of the distance to the re-identification features (--reid); 0: no such loss."""
    lessons: int = pydantic.Field(default=8, ge=1)
    """Triples of frames of each clip; their flow is written once beside the shards."""


class DataConfig(FrozenModel):
    """How training triples vary."""

    geometry: bool = True
    """Turn, zoom and shift frames, sector and flow together, and reverse half of the pairs."""
    gain: float = pydantic.Field(default=0.2, ge=0, lt=1)
    """Brightness varies by a factor in [1 - gain, 1 + gain], of what motion and appearance are told from."""
    contrast: float = pydantic.Field(default=0.3, ge=0, lt=2)
    """Grey values are raised to a power in [2^-contrast, 2^contrast], of what motion and appearance are told from."""


class MafeRecipe(Recipe):
    """One training run of motion features, whole but for the data, the encoder and the folder."""

    network: Annotated[Literal["echofm", "published"], tyro.conf.Fixed, tyro.conf.Suppress]
    """Heads on an EchoFM encoder, or the published frame-pair network."""
    heads: HeadsConfig = HeadsConfig()
    """The heads of `echofm`."""
    published: Annotated[PublishedConfig, tyro.conf.Suppress] = PublishedConfig()
    """The widths of `published`."""
    teachers: TeachersConfig = TeachersConfig()
    """Who teaches."""
    data: DataConfig = DataConfig()
    """How training triples vary."""


def echofm() -> MafeRecipe:
    """Heads on an encoder: motion by attention between frames, appearance of a frame alone.

    echofm synth train mafe echofm --data SHARDS --encoder RUN/export --out RUN

    The shards have the encoder's size. About 40 minutes of one core at 64 pixels.
    """
    return MafeRecipe(
        name="echofm",
        network="echofm",
        fit=FitConfig(
            steps=4000, batch=16, workers=0, ema_decay=0.995,
            optim=OptimConfig(base_lr=2.4e-2, warmup_steps=100, max_grad_norm=1.0),
        ),
        monitor=MonitorConfig(every=500, clips=16),
    )  # fmt: skip


def demo() -> MafeRecipe:
    """The same in two minutes on two cores, to see everything work.

    echofm synth train mafe demo --data SHARDS --encoder RUN/export --out RUN
    """
    recipe = echofm()
    optim = OptimConfig(base_lr=4.8e-2, warmup_steps=20, max_grad_norm=1.0)
    changed = {"steps": 300, "batch": 8, "save_every": 150, "ema_decay": 0.98, "optim": optim}
    fit = recipe.fit.model_copy(update=changed)
    return recipe.model_copy(update={"name": "demo", "fit": fit, "monitor": MonitorConfig(every=150, clips=16)})


def published() -> MafeRecipe:
    """The published frame-pair network and losses (EMA-VFI as MAFE trains it), 66 M parameters at 112 pixels, one GPU.

    echofm synth train mafe published --data SHARDS --reid HEAD --out RUN

    AdamW 2e-4, batch 8; the pairs are this project's, so that no label chooses them, and what is varied is varied
    together.
    """
    return MafeRecipe(
        name="published",
        network="published",
        fit=FitConfig(
            steps=100_000, batch=8, workers=0,
            optim=OptimConfig(
                base_lr=6.4e-3, min_lr_ratio=0.1, warmup_steps=2000, weight_decay=1e-4, max_grad_norm=1.0
            ),
        ),
        teachers=TeachersConfig(flow_weight=0.01, identity_weight=1.0),
    )  # fmt: skip


def published_small() -> MafeRecipe:
    """An eighth of the published widths, for comparisons at 64 pixels, as long as `demo`.

    echofm synth train mafe published_small --data SHARDS --out RUN
    """
    small = PublishedConfig(
        window=4, embed_dims=(4, 8, 16, 32, 64), motion_dims=(0, 0, 0, 8, 16), num_heads=(1, 2), refine_c=8,
        head_hidden=(16, 16),
    )  # fmt: skip
    recipe = published()
    fit = FitConfig(
        steps=300, batch=8, workers=0, save_every=150, ema_decay=0.98,
        optim=OptimConfig(base_lr=3.2e-2, warmup_steps=20, weight_decay=1e-4, max_grad_norm=1.0),
    )  # fmt: skip
    return recipe.model_copy(update={"name": "published_small", "published": small, "fit": fit})


_ALL: tuple[Callable[[], MafeRecipe], ...] = (echofm, demo, published, published_small)
RECIPES = {recipe.__name__: recipe for recipe in _ALL}
