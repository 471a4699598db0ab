"""Pretrain an encoder on shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.engine import command
from pretrain.recipes import RECIPES, PretrainRecipe

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from pretrain.task import PretrainTask


@dataclass(frozen=True)
class Inputs:
    """What a run may begin from beside shards."""

    init: Annotated[str | None, tyro.conf.arg(metavar="EXPORT")] = None
    """Begin from the weights of an export, a folder or a hub id, decoder included, instead of from random ones."""


def build(recipe: PretrainRecipe, shards: ShardSet, *, init: str | None = None) -> PretrainTask:
    """The task of a recipe on shards, from the export `init` or from random weights."""
    from pretrain.task import PretrainTask

    return PretrainTask(recipe, shards, init=init)


TRAINER = command.Trainer("echofm pretrain", __doc__ or "", RECIPES, build, Inputs)


def main(argv: list[str]) -> int:
    return command.main(argv, TRAINER)
