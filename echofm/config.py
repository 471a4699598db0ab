"""Recipe: the base of what a training command takes."""

from __future__ import annotations

from echofm.schema import FrozenModel


class Recipe(FrozenModel):
    """Everything about a training run: saved beside it, and the same run again when given back.

    Fields carry their unit in their name; the string under a field is its line in `--help`.
    """
