"""The rows of a table: which columns there are, of which type, and how those of several parts are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.errors import EchofmError

TEXT_COLUMNS = ("clip_id", "patient_id", "study_id", "split", "dataset", "view", "kind")
NUMBER_COLUMNS = ("frame_rate_hz", "frames", "windows")
COLUMNS = TEXT_COLUMNS + NUMBER_COLUMNS
# 1 for clips of the phantom; a table of real clips alone may be without this column.
SIMULATED = "simulated"
SPLITS = ("train", "val", "test")


def stack_rows(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several parts; label columns sorted by name, so that the order of the parts does not show."""
    # Through plain lists: a column that is empty in one part must not decide the type of the whole.
    names = sorted({name for part in parts for name in part.columns} - set(COLUMNS))
    columns: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, *names)}
    for part in parts:
        for name, values in columns.items():
            values.extend(or_none(part[name]) if name in part.columns else [None] * len(part))
    return tidy_rows(pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()}))


def tidy_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Each column in its type: nullable text, or float64 for numbers; a label column that mixes both becomes text."""
    tidy = {}
    for name in rows.columns:
        values = rows[name].astype(object)
        values = values.where(values.notna(), None)
        number = name not in TEXT_COLUMNS and _all_numbers(values)
        tidy[name] = values.astype("float64" if number else "string")
    return pd.DataFrame(tidy).reset_index(drop=True)


def _all_numbers(values: pd.Series) -> bool:
    return all(value is None or isinstance(value, int | float | np.number | np.bool_) for value in values)


def or_none(column: pd.Series) -> npt.NDArray[np.object_]:
    """A column as objects, None where a value is missing."""
    return column.astype(object).where(column.notna(), None).to_numpy(object)


def check_columns(rows: pd.DataFrame) -> None:
    """Raises EchofmError where a column is missing or of a wrong type, or an id is missing or occurs twice."""
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise EchofmError(f"the table lacks the columns {', '.join(missing)}")
    for name in ("clip_id", "patient_id"):
        if rows[name].isna().any():
            raise EchofmError(f"the table has rows without a {name}")
    twice = rows["clip_id"].duplicated()
    if twice.any():
        raise EchofmError(f"{int(twice.sum())} clip ids occur twice; give each clip one row")
    unknown = set(rows["split"].dropna()) - set(SPLITS)
    if unknown:
        raise EchofmError(f"{len(unknown)} split names are not one of {', '.join(SPLITS)}; rename them")
    for name in rows.columns:
        number = pd.api.types.is_float_dtype(rows[name])
        if not number and (name in NUMBER_COLUMNS or not pd.api.types.is_string_dtype(rows[name])):
            raise EchofmError(f"column {name!r} is {rows[name].dtype}; text or float64 is needed")
        if number and np.isinf(rows[name].to_numpy()).any():
            raise EchofmError(f"column {name!r} holds an infinite number; use NaN where a value is missing")
