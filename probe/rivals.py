"""Rivals: other tables over the same clips, put into the same order."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.constant import CONSTANT

# What a result calls the probe itself and the predictors that look at no features.
METHODS = frozenset(["probe", "chance", *CONSTANT.values()])


def require_free_names(rivals: Iterable[str]) -> None:
    """Raises EchofmError where a rival has a method's own name: its figures would be taken for the method's."""
    taken = sorted(METHODS & set(rivals))
    if taken:
        raise EchofmError(f"a rival cannot be named {taken[0]!r}, as a method of the result is; give another name")


def same_clips(rival: EmbeddingTable, table: EmbeddingTable, name: str, *, phase: bool = False) -> EmbeddingTable:
    """The rival's rows of the table's clips. Raises EchofmError where it lacks clips, or phase tokens if needed."""
    place = pd.Index(rival.clip_id).get_indexer(pd.Index(table.clip_id))
    if (place < 0).any():
        raise EchofmError(f"table {name!r} lacks {int((place < 0).sum())} of the clips; embed the same data")
    if phase and rival.phase is None:
        raise EchofmError(f"table {name!r} has no phase tokens; embed the clips with phase on")
    return rival.select(place)
