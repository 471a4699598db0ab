"""Target: what a probe predicts, its kind read off the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError

Task = Literal["regression", "classification"]
_FEWEST_CLIPS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """One column of a table over the clips that have it.

    rows_M: these clips' rows in the table. values_M: float64 (regression), or int64 class numbers (classification).
    classes: names of the classes in the order of their numbers; empty for regression.
    """

    name: str
    task: Task
    rows_M: npt.NDArray[np.int64]
    values_M: npt.NDArray
    classes: tuple[str, ...] = ()


def read_target(table: EmbeddingTable, name: str, *, task: Task | None = None) -> Target:
    """A label, `view` or `kind` as a target. Text is classified; numbers are regressed, unless they are 0 and 1.

    Raises EchofmError where the table has no such column, too few clips have it, or it does not vary.
    """
    if name in ("clip_id", "patient_id", "split") or name not in table.rows.columns:
        offered = [column for column in (*table.labels.columns, "view", "kind") if table.rows[column].notna().any()]
        raise EchofmError(f"the table has no label {name!r}; it has: {', '.join(offered) or 'none'}")
    column = table.rows[name]
    rows = np.flatnonzero(column.notna().to_numpy(bool))
    if len(rows) < _FEWEST_CLIPS:
        raise EchofmError(f"{len(rows)} clips have the label {name!r}; a probe needs {_FEWEST_CLIPS} or more")
    known = column.iloc[rows]
    if task is None:
        number = pd.api.types.is_numeric_dtype(known.dtype) and not set(known.unique()) <= {0.0, 1.0}
        task = "regression" if number else "classification"
    if known.nunique() < 2:
        raise EchofmError(
            f"the label {name!r} is {known.iloc[0]!r} in every clip that has it: there is nothing to learn"
        )
    if task == "regression":
        if not pd.api.types.is_numeric_dtype(known.dtype):
            raise EchofmError(f"the label {name!r} is text; take --task classification")
        return Target(name=name, task=task, rows_M=rows, values_M=known.to_numpy(np.float64))
    classes, numbers = np.unique(known.map(_class_name).to_numpy(str), return_inverse=True)
    return Target(name=name, task=task, rows_M=rows, values_M=numbers.astype(np.int64), classes=tuple(classes.tolist()))


def _class_name(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
