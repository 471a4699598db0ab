"""The view, of all sets at once: most sets have one view alone, of which nothing can be learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.rows import or_none
from echofm.embed.table import EmbeddingTable
from probe.bench.prepare import Prepared, apart

_ORDER = {"test": 0, "val": 1, "train": 2}
NOTE = (
    "views are learnt from all sets together: where a set has a view of its own, a probe may know the set by its look"
)


def shared_rows(sets: Sequence[Prepared]) -> tuple[list[npt.NDArray[np.int64]], list[str]]:
    """Rows of each set's table: a clip of two sets once, for testing where one of them tests on it; no patient in two
    splits. And what was left out, in words."""
    tables = [each.table for each in sets]
    clip_N, patient_N = (
        np.concatenate([getattr(table, name) for table in tables]) for name in ("clip_id", "patient_id")
    )
    split_N = np.concatenate([or_none(table.rows["split"]) for table in tables])
    order = np.argsort([_ORDER[each] for each in split_N], kind="stable")
    once = np.zeros(len(clip_N), bool)
    once[order[~pd.Series(clip_N[order]).duplicated().to_numpy()]] = True
    split_N[~once] = None
    keep, notes = apart(split_N, patient_N)
    starts = np.cumsum([0, *map(len, tables)])
    inside = [keep[(keep >= first) & (keep < last)] - first for first, last in pairwise(starts.tolist())]
    return inside, notes


def pooled(tables: Sequence[EmbeddingTable], rows: Sequence[npt.NDArray[np.int64]]) -> EmbeddingTable:
    """The clips' mean features alone: their tokens together would not fit into memory."""
    plain = [replace(table, motion_NRCD=None, phase=None, tokens=None) for table in tables]
    return EmbeddingTable.concat([table.select(own) for table, own in zip(plain, rows) if len(own)])


def in_all(baselines: Sequence[Mapping[str, EmbeddingTable]]) -> list[str]:
    """Names that every set has a table of."""
    return [name for name in baselines[0] if all(name in each for each in baselines)]
