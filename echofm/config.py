"""Recipe: the base of what a training command takes. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar

import tyro

from echofm.engine.config import FitConfig, MonitorConfig
from echofm.schema import FrozenModel


class Recipe(FrozenModel):
    """Everything about a training run but its data and its folder: saved beside it, and the same run when given back.

    Fields carry their unit in their name; the string under a field is its line in `--help`.
    """

    free_on_resume: ClassVar[frozenset[str]] = frozenset(["licence", "authors"])
    # Whether its shards may hold a codec's latents.
    takes_latents: ClassVar[bool] = False

    name: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress]
    """The recipe that it began as."""
    fit: FitConfig
    """The training loop."""
    monitor: MonitorConfig = MonitorConfig()
    """What is measured on held-out clips."""
    licence: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Under which the weights are to be shared, for the model card (`cc-by-4.0`); else it says: not stated."""
    authors: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Whose the weights are, for the model card."""
