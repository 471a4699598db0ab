"""The test clips that a probe is furthest off with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from echofm.schema import FrozenModel

COUNT = 10


class WorstClip(FrozenModel):
    """One clip, by its keyed hashes."""

    clip_id: str
    patient_id: str
    true: str
    said: str
    error: float
    """What the clips are ranked by, as `ranked_by` tells."""


class WorstClips(FrozenModel):
    """The clips furthest off, the worst first."""

    ranked_by: str
    clips: list[WorstClip]


def worst_clips(predictions: pd.DataFrame, *, task: str, classes: list[str], count: int = COUNT) -> WorstClips | None:
    """By absolute error; for classes by the probability that the true one was given; None for tasks without either."""
    if task == "regression":
        error = (predictions["predicted"] - predictions["true"]).abs()
        shown = [predictions[name].map("{:.4g}".format) for name in ("true", "predicted")]
        return _ranked(predictions, error, *shown, by="absolute error", count=count)
    columns = [f"probability_{name}" for name in classes]
    if not classes or not set(columns) <= set(predictions.columns):
        return None
    said_NK = predictions[columns].to_numpy(float)
    if task == "multilabel":
        true_NK = predictions[[f"true_{name}" for name in classes]].to_numpy(float)
        error = pd.Series(np.nanmean(np.abs(said_NK - true_NK), 1), index=predictions.index)
        shown = [_names(each > 0.5, classes, predictions.index) for each in (true_NK, said_NK)]
        return _ranked(predictions, error, *shown, by="mean distance of the probabilities from the truth", count=count)
    true = predictions["true"].astype(str)
    place = true.map({name: number for number, name in enumerate(classes)}).to_numpy(int)
    error = pd.Series(1 - said_NK[np.arange(len(place)), place], index=predictions.index)
    said = predictions["predicted"].astype(str)
    return _ranked(predictions, error, true, said, by="1 - probability of the true class", count=count)


def _ranked(
    rows: pd.DataFrame, error: pd.Series, true: pd.Series, said: pd.Series, *, by: str, count: int
) -> WorstClips:
    # A stable sort: of equal errors the first clip, whatever the version of pandas.
    order = np.argsort(-error.to_numpy(float), kind="stable")[:count]
    return WorstClips(
        ranked_by=by,
        clips=[
            WorstClip(
                clip_id=str(rows["clip_id"].iloc[place]),
                patient_id=str(rows["patient_id"].iloc[place]),
                true=str(true.iloc[place]),
                said=str(said.iloc[place]),
                error=float(error.iloc[place]),
            )
            for place in order
        ],
    )


def _names(is_so_NK: np.ndarray, classes: list[str], index: pd.Index) -> pd.Series:
    names = [", ".join(name for name, so in zip(classes, row) if so) or "none" for row in is_so_NK]
    return pd.Series(names, index=index)
