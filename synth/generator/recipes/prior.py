"""Train a generator of motion itself, by ejection fraction, so that no training patient's motion is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm.engine.command import Trainer
from synth.generator.building import PriorInputs
from synth.generator.config import GeneratorRecipe, NetworkConfig
from synth.generator.recipes import video_ef

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from synth.generator.task import GeneratorTask

_CONDITIONS = ("ef", "phase", "view")


def demo() -> GeneratorRecipe:
    """2.6 M parameters on 16 times of 256 numbers: ten minutes on two CPU cores, estimated.

    echofm synth train prior demo --data SHARDS --motion RUN --out RUN

    Then `echofm synth sample VIDEO_MOTION_RUN --motion PRIOR_RUN --ef uniform --out SET`.
    """
    recipe = video_ef.demo()
    fit = recipe.fit.model_copy(update={"steps": 1500})
    network = NetworkConfig(width=128, depth=6, heads=4, patch=1)
    return recipe.model_copy(update={"network": network, "conditions": _CONDITIONS, "fit": fit})


def base() -> GeneratorRecipe:
    """20 M parameters on 32 times, one GPU.

    echofm synth train prior base --data SHARDS --motion RUN --out RUN
    """
    recipe = video_ef.base()
    network = NetworkConfig(width=384, depth=6, heads=6, patch=1)
    return recipe.model_copy(update={"network": network, "conditions": _CONDITIONS})


def build(recipe: GeneratorRecipe, shards: ShardSet, *, motion: str | None = None) -> GeneratorTask:
    """The task of a recipe on shards of pixels."""
    from synth.generator.prior import prior_task

    return prior_task(recipe, shards, motion=motion)


TRAINER = Trainer("echofm synth train prior", __doc__ or "", {"demo": demo, "base": base}, build, PriorInputs)
