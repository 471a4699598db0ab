"""Subgroups: where a probe does well and where it does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from probe.bootstrap import redraw
from probe.labels.answers import Truth
from probe.labels.target import Target
from probe.result import Subgroup

# Looked at where a table has them. Bands of numbers: EF by the heart-failure guidelines' 40 and 50 %, the rest by
# what is usual, so that figures of two data sets can be set side by side.
COLUMNS = ("view", "dataset", "image_quality", "sex", "ef_percent", "frame_rate_hz", "heart_rate_bpm", "age_years")
_BANDS = {
    "ef_percent": (40.0, 50.0),
    "frame_rate_hz": (30.0, 50.0, 80.0),
    "heart_rate_bpm": (60.0, 90.0),
    "age_years": (18.0, 40.0, 65.0),
}
# Below these an interval over patients says nothing.
_FEWEST_CLIPS, _FEWEST_PATIENTS = 10, 5


def subgroups(
    rows: pd.DataFrame, goal: Target, truth: Truth, predicted_NS: npt.NDArray, *, draws: int, seed: int
) -> list[Subgroup]:
    """Figures by view, data set, ... of the test clips in `rows`; patients are redrawn from all test patients.

    A group with fewer than 10 clips or 5 patients is left out, and so are a column that falls into one group and the
    target itself, where it is a class.
    """
    found = []
    for column in COLUMNS:
        if column not in rows.columns or (column == goal.name and goal.task != "regression"):
            continue
        groups = _groups(rows[column].reset_index(drop=True))
        for value, members in groups.items() if len(groups) > 1 else ():
            patients = len(set(truth.patients_N[members]))
            if members.sum() < _FEWEST_CLIPS or patients < _FEWEST_PATIENTS:
                continue
            redrawn = redraw(truth.among(members, predicted_NS), draws=draws, seed=seed)
            scores = {
                key.metric: replace(each, patients=patients).estimate for key, each in redrawn.items() if not key.of
            }
            found.append(
                Subgroup(column=column, value=value, clips=int(members.sum()), patients=patients, scores=scores)
            )
    return found


def _groups(values: pd.Series) -> dict[str, npt.NDArray[np.bool_]]:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return {str(word): (values == word).to_numpy(bool, na_value=False) for word in sorted(values.dropna().unique())}
    numbers, edges = values.to_numpy(np.float64, na_value=np.nan), _BANDS.get(str(values.name), ())
    if not edges:
        return {}
    ends = (-np.inf, *edges, np.inf)
    bands = {_band(low, high): (numbers >= low) & (numbers < high) for low, high in pairwise(ends)}
    return {name: members for name, members in bands.items() if members.any()}


def _band(low: float, high: float) -> str:
    if low == -np.inf:
        return f"below {high:g}"
    return f"{low:g} and above" if high == np.inf else f"{low:g} to {high:g}"
