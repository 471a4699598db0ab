"""Train a translator of colour Doppler into greyscale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.engine import command
from synth.translate.config import TranslateRecipe
from synth.translate.recipes import RECIPES

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from synth.translate.task import TranslateTask


@dataclass(frozen=True)
class Inputs:
    """In whose features clips are compared, beside their pixels."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="E")] = None
    """An encoder of ours, trained on the training split: an export or a hub id."""


def build(recipe: TranslateRecipe, shards: ShardSet, *, encoder: str | None = None) -> TranslateTask:
    """The task of a recipe on shards."""
    from synth.translate.task import TranslateTask

    return TranslateTask(recipe, shards, encoder=encoder)


TRAINER = command.Trainer("echofm synth train translate", __doc__ or "", RECIPES, build, Inputs)
