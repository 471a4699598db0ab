"""Train an autoencoder whose latents generators work in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.engine import command
from synth.latent.config import LatentRecipe
from synth.latent.recipes import RECIPES

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from synth.latent.task import LatentTask


@dataclass(frozen=True)
class Inputs:
    """In whose features frames are compared, beside their pixels."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="E")] = None
    """An encoder of ours, trained on the training split: an export or a hub id."""
    lpips: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of LPIPS (VGG-16) instead, as published."""


def build(
    recipe: LatentRecipe, shards: ShardSet, *, encoder: str | None = None, lpips: Path | None = None
) -> LatentTask:
    """The task of a recipe on shards."""
    from synth.latent.task import LatentTask

    return LatentTask(recipe, shards, encoder=encoder, lpips=lpips)


TRAINER = command.Trainer("echofm synth train latent", __doc__ or "", RECIPES, build, Inputs)
