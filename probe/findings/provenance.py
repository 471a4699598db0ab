"""Where the clips of a table come from, as far as the table tells."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable

# The phantom's alone: a public set has neither a simulated rhythm nor the true phase of every frame.
_PHANTOM_LABEL = "rhythm"


def is_phantom(table: EmbeddingTable) -> bool:
    """Whether the clips are simulated: they carry the true phase of their moments or a simulated rhythm, or say so."""
    if any("phantom" in name.lower() for name in datasets(table)):
        return True
    known = _PHANTOM_LABEL in table.rows.columns and bool(table.rows[_PHANTOM_LABEL].notna().any())
    return known or (table.phase is not None and bool(np.isfinite(table.phase.cycle_P).any()))


def datasets(table: EmbeddingTable) -> list[str]:
    """The names of the sets that the clips are of, the commonest first."""
    return [str(name) for name in table.rows["dataset"].value_counts().index]
