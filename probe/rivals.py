"""Rivals: other tables over the same clips, put into the same order."""

from __future__ import annotations

import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError


def same_clips(rival: EmbeddingTable, table: EmbeddingTable, name: str, *, phase: bool = False) -> EmbeddingTable:
    """The rival's rows of the table's clips. Raises EchofmError where it lacks clips, or phase tokens if needed."""
    place = pd.Index(rival.clip_id).get_indexer(pd.Index(table.clip_id))
    if (place < 0).any():
        raise EchofmError(f"table {name!r} lacks {int((place < 0).sum())} of the clips; embed the same data")
    if phase and rival.phase is None:
        raise EchofmError(f"table {name!r} has no phase tokens; embed the clips with phase on")
    return rival.select(place)
