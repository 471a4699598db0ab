"""Train motion and appearance features on pairs of frames of a beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.engine import command
from synth.mafe.recipes import RECIPES, MafeRecipe

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from synth.mafe.task import MafeTask


@dataclass(frozen=True)
class Inputs:
    """What a run begins from beside shards."""

    encoder: Annotated[str | None, tyro.conf.arg(metavar="EXPORT")] = None
    """The EchoFM encoder that the heads read, a folder or a hub id; `published` has none."""
    reid: Annotated[Path | None, tyro.conf.arg(metavar="HEAD")] = None
    """The appearance teacher: a re-identification head on that encoder (`echofm audit fit-reid`)."""


def build(recipe: MafeRecipe, shards: ShardSet, *, encoder: str | None = None, reid: Path | None = None) -> MafeTask:
    """The task of a recipe on shards."""
    from synth.mafe.task import MafeTask

    return MafeTask(recipe, shards, encoder=encoder, reid=reid)


TRAINER = command.Trainer("echofm synth train mafe", __doc__ or "", RECIPES, build, Inputs)
