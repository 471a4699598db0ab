"""Where the clips of a table come from, as far as the table tells."""

from __future__ import annotations

import numpy as np

from echofm.embed.table import EmbeddingTable
from echofm.phantom.anatomy import RHYTHMS

_RHYTHM, _RATE = "rhythm", "heart_rate_bpm"
# Public sets whose layouts the phantom writes; their own readers tell neither rhythm nor heart rate.
_LAYOUTS = frozenset(["echonet-dynamic", "camus"])


def is_phantom(table: EmbeddingTable) -> bool:
    """Whether the clips are simulated: their data set says so, or they carry the true phase of their moments.

    Without phase tokens the words of the simulated rhythms tell it, but real cohorts use such words too. They count
    only where no data set is named, or where one is in whose layout the phantom is written and every clip has the
    phantom's rhythm and heart rate.
    """
    names = datasets(table)
    if any("phantom" in name.lower() for name in names):
        return True
    # No reader of a real set gives the true phase of every frame.
    if table.phase is not None and bool(np.isfinite(table.phase.cycle_P).any()):
        return True
    if names and not (set(names) <= _LAYOUTS and _known_throughout(table, _RATE) and _known_throughout(table, _RHYTHM)):
        return False
    rhythms = set(table.rows[_RHYTHM].dropna()) if _RHYTHM in table.rows.columns else set()
    # Of a real set's rhythms some have other words, such as "sinus".
    return bool(rhythms) and rhythms <= set(RHYTHMS)


def _known_throughout(table: EmbeddingTable, label: str) -> bool:
    return label in table.rows.columns and bool(table.rows[label].notna().all())


def datasets(table: EmbeddingTable) -> list[str]:
    """The names of the sets that the clips are of, the commonest first."""
    return [str(name) for name in table.rows["dataset"].value_counts().index if str(name).strip()]
