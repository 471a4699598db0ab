"""The test clips that a probe is furthest off with: which they are and what they look like."""

from __future__ import annotations

import numpy as np
import pandas as pd

from echofm.report.blocks import Block, FilmStrip, Table
from echofm.schema import FrozenModel
from probe.report.canvas import in_words
from probe.report.frames import FramesOf, evenly, read_ahead

_FRAMES = 8
COUNT = 10


class WorstClip(FrozenModel):
    """One clip, by its keyed hashes."""

    clip_id: str
    patient_id: str
    true: str
    predicted: str
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
    predicted_NK = predictions[columns].to_numpy(float)
    if task == "multilabel":
        true_NK = predictions[[f"true_{name}" for name in classes]].to_numpy(float)
        error = pd.Series(np.nanmean(np.abs(predicted_NK - true_NK), 1), index=predictions.index)
        shown = [_names(each > 0.5, classes, predictions.index) for each in (true_NK, predicted_NK)]
        return _ranked(predictions, error, *shown, by="mean distance of the probabilities from the truth", count=count)
    true = predictions["true"].astype(str)
    place = true.map({name: number for number, name in enumerate(classes)}).to_numpy(int)
    error = pd.Series(1 - predicted_NK[np.arange(len(place)), place], index=predictions.index)
    predicted = predictions["predicted"].astype(str)
    return _ranked(predictions, error, true, predicted, by="1 - probability of the true class", count=count)


def _ranked(
    rows: pd.DataFrame, error: pd.Series, true: pd.Series, predicted: pd.Series, *, by: str, count: int
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
                predicted=str(predicted.iloc[place]),
                error=float(error.iloc[place]),
            )
            for place in order
        ],
    )


def _names(is_so_NK: np.ndarray, classes: list[str], index: pd.Index) -> pd.Series:
    names = [", ".join(name for name, so in zip(classes, row) if so) or "none" for row in is_so_NK]
    return pd.Series(names, index=index)


def worst(found: WorstClips, *, target: str, frames_of: FramesOf | None) -> list[Block]:
    """The table, and below it film strips of those clips that `frames_of` has."""
    table = Table(
        columns=("clip (hashed)", "patient (hashed)", f"true {in_words(target)}", "predicted", found.ranked_by),
        rows=[(each.clip_id, each.patient_id, each.true, each.predicted, each.error) for each in found.clips],
        caption="The test clips furthest off, the worst first.",
    )
    if frames_of is None:
        return [table]
    read_ahead(frames_of, [each.clip_id for each in found.clips])
    strips = {}
    for number, each in enumerate(found.clips, 1):
        frames = frames_of(each.clip_id)
        if frames is not None:
            strips[f"{number}. {each.true}, predicted {each.predicted}"] = evenly(frames, _FRAMES)
    if not strips:
        return [table]
    strip = FilmStrip(
        rows=strips,
        alt="frames of the test clips furthest off",
        caption=f"The same clips in the same order, {_FRAMES} frames from the first to the last: what is true, and "
        "what the probe said.",
    )
    return [table, strip]
