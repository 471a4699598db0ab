"""Prediction files as CardioBench's evaluators read them: HOME/TASK/MODEL.csv, one line a key."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from echofm.atomic import write_whole
from echofm.errors import os_errors_as
from probe.bench.tasks import VIEW, VIEWS, BenchSet, BenchTask, set_of

# Its evaluators take an underscore in a model's name for a sign of their own (a view, single images).
_NO_NAME = re.compile(r"[^A-Za-z0-9.]+")


def model_name(encoder: str) -> str:
    """An encoder's name as a file's."""
    return _NO_NAME.sub("-", encoder).strip("-.") or "encoder"


def write_task(
    folder: Path, task: BenchTask, keys: pd.DataFrame, predictions: pd.DataFrame, *, model: str
) -> list[Path]:
    """Its test clips' predictions, averaged over the clips of a key. keys: of the set's clips, by clip_id."""
    value = "predicted" if "probability_yes" not in predictions else "probability_yes"
    joined = keys.merge(predictions[["clip_id", value]], on="clip_id")
    home = folder / set_of(task.set).home / task.folder
    if not task.by_view:
        return [_write(home / f"{model}.csv", _lines(task, joined, value))]
    return [
        _write(home / f"{model}_{str(view).lower()}.csv", _lines(task, own, value))
        for view, own in joined.groupby("view", sort=True)
    ]


def lines_of(task: BenchTask, keys: pd.DataFrame, predictions: pd.DataFrame) -> int:
    """How many lines CardioBench would test on."""
    tested = keys.merge(predictions[["clip_id"]], on="clip_id")
    return len(tested.drop_duplicates([task.key, *(["view"] if task.by_view else [])]))


def _lines(task: BenchTask, joined: pd.DataFrame, value: str) -> pd.DataFrame:
    by_key = joined.groupby(task.key, sort=True)
    mean = by_key[value].mean()
    found = pd.DataFrame({task.key: mean.index})
    if value == "predicted":
        found[task.predicted] = mean.to_numpy()
    else:
        found[task.predicted] = (mean.to_numpy() >= 0.5).astype(int)
        if task.probability:
            found[task.probability] = mean.to_numpy()
    return found.assign(view=by_key["view"].first().to_numpy()) if task.with_view else found


def write_views(folder: Path, own: BenchSet, keys: pd.DataFrame, predictions: pd.DataFrame, *, model: str) -> Path:
    """Of one set's test clips; what a probability lacks to 1 is the view Other."""
    joined = keys[["clip_id", own.view_key]].merge(predictions, on="clip_id").drop_duplicates(own.view_key)
    joined = joined.sort_values(own.view_key)
    found = pd.DataFrame({own.view_key: joined[own.view_key], "view_pred": joined["predicted"]})
    for view in VIEWS:
        found[f"prob_{view}"] = joined.get(f"probability_{view}", 0.0)
    return _write(folder / own.home / VIEW / f"{model}{own.view_end}.csv", found)


def _write(path: Path, lines: pd.DataFrame) -> Path:
    with os_errors_as("predictions cannot be written ({reason}); check --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lines.to_csv(index=False, lineterminator="\n"))
    return path
