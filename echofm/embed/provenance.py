"""Where the clips of a table come from, as far as the table tells."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.phantom.anatomy import RHYTHMS

# Of a real set's rhythms some have other words, such as "sinus".
_RHYTHM = "rhythm"


def is_phantom(table: EmbeddingTable) -> bool:
    """Whether the clips are simulated: they carry the true phase of their moments or a simulated rhythm, or say so."""
    if any("phantom" in name.lower() for name in datasets(table)):
        return True
    rhythms = set(table.rows[_RHYTHM].dropna()) if _RHYTHM in table.rows.columns else set()
    simulated = bool(rhythms) and rhythms <= set(RHYTHMS)
    # No reader of a real set gives the true phase of every frame.
    return simulated or (table.phase is not None and bool(np.isfinite(table.phase.cycle_P).any()))


def datasets(table: EmbeddingTable) -> list[str]:
    """The names of the sets that the clips are of, the commonest first."""
    return [str(name) for name in table.rows["dataset"].value_counts().index]
