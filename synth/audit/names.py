"""Names that may be shown: our own keyed hashes as they are, anything else hashed before it reaches an output.

Tables of someone else's features may carry real names or markup as ids. They are replaced on the way in, so that no
report, table or message downstream can show them.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.ids import IdKey, load_key
from synth.audit.canaries.marks import LEFT_OUT, SOURCE

# A name of digits alone may be a hospital's number; of our hashes one in ten thousand is, and is hashed again.
_OURS = re.compile(r"(?=.*[a-f])[0-9a-f]{20}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,99}")


def shown(name: str, key: IdKey) -> str:
    """The name itself where it is a hash of ours or empty, else a keyed hash of it, which is then shown as it is."""
    while name and not _OURS.fullmatch(name):
        name = key.patient(f"audit\0{name}")
    return name


def safe_table(table: EmbeddingTable, *, key: IdKey | None = None) -> EmbeddingTable:
    """The table with every clip and patient id fit to be shown; one name has one hash in all tables of one key."""
    columns = [name for name in ("clip_id", "patient_id", SOURCE, LEFT_OUT) if name in table.rows.columns]
    if all(_all_ours(table.rows[name]) for name in columns):
        return table
    key = key or load_key()
    hashed = {
        name: pd.array([None if pd.isna(each) else shown(str(each), key) for each in table.rows[name]], dtype="string")
        for name in columns
    }
    return replace(table, rows=table.rows.assign(**hashed))


def shown_digest(digest: str, *, key: IdKey | None = None) -> str:
    """An encoder's digest or plain name; one with blanks or markup in it is hashed."""
    return digest if _PLAIN.fullmatch(digest) else (key or load_key()).patient(f"audit\0{digest}")


def text(values: npt.NDArray[np.object_]) -> npt.NDArray[np.str_]:
    """Object array of names as text; missing ones become ""."""
    return np.array(["" if pd.isna(each) else str(each) for each in values], dtype=np.str_)


def _all_ours(column: pd.Series) -> bool:
    return all(pd.isna(each) or not each or _OURS.fullmatch(str(each)) for each in column)
