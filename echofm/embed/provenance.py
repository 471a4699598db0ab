"""Where the clips of a table come from."""

from __future__ import annotations

from echofm.embed.rows import SIMULATED
from echofm.embed.table import EmbeddingTable


def is_simulated(table: EmbeddingTable) -> bool:
    """Whether any of the clips is the phantom's."""
    return SIMULATED in table.rows.columns and bool((table.rows[SIMULATED] == 1).any())


def datasets(table: EmbeddingTable) -> list[str]:
    """The names of the sets that the clips are of, the commonest first."""
    return [str(name) for name in table.rows["dataset"].value_counts().index if str(name).strip()]
