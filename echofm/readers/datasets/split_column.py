"""A table's column of splits under our three words: a word that nobody knows costs its rows, never the set."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from echofm.errors import EchofmError
from echofm.readers.datasets.labels import number
from echofm.readers.datasets.table import place, shown
from echofm.readers.datasets.walk import Notes
from echofm.split import SPLITS

# Of all sets; "" and the words of "no split" leave it to `echofm shards`.
WORDS: Mapping[str, str | None] = {
    **{name: name for name in SPLITS},
    **{"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"},
    **dict.fromkeys(("", "nan", "na", "n/a", "none", "null"), None),
}

# The split of rows that are not to be used.
LEFT_OUT = "left out"


def given_split(cell: str, *, table: str, row: int, column: str = "split") -> str | None:
    """A cell of the user's own table. Raises EchofmError on another word, as it may hide a test set."""
    if cell.casefold() not in WORDS:
        raise EchofmError(f"{place(table, row, column)}: {shown(cell)} is none of train, val and test; correct it")
    return WORDS[cell.casefold()]


def with_splits(
    table: pd.DataFrame, column: str, notes: Notes, *, name: str, further: Mapping[str, str | None] = WORDS
) -> pd.DataFrame:
    """A set's table with the column `split`, "" where it gives none, LEFT_OUT where nobody knows the word.

    Such rows are left out, as a hidden test set might be among them, and counted with the word and where it is.
    further: the set's own words, lower-case, in addition; a number as `3`.
    Raises EchofmError where most rows have such a word: then it is the table that is not understood.
    """
    words = {**WORDS, **further}
    cells = table[column]
    splits = {cell: words.get(_key(cell), LEFT_OUT) or "" for cell in cells.unique()}
    table = table.assign(split=cells.map(splits).astype(object))
    unknown = table["split"] == LEFT_OUT
    if unknown.any():
        row, word = table.index[unknown][0], cells[unknown].iloc[0]
        text = f"{place(name, row, column)}: {shown(word)} is no split that this set is known to have"
        if 2 * int(unknown.sum()) > len(table):
            raise EchofmError(f"{text}; correct it")
        notes[f"rows left out, as nothing is known of their split ({text})"] += int(unknown.sum())
    return table


def _key(cell: str) -> str:
    value = number(cell)
    return str(int(value)) if value is not None and value == int(value) else cell.casefold()
