"""Clips on a page, their frames asked for by id: those furthest off, what retrieval found, outlines of structures.

T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.ndimage
from PIL import Image

from echofm.clip import NOT_ANNOTATED, Clip
from echofm.embed.inputs import FileInput, Item
from echofm.embed.set_aside import Position
from echofm.names import Name
from echofm.report.blocks import Block, FilmStrip, Table
from echofm.schema import FrozenModel
from echofm.shards.read import ShardSet
from probe.report.canvas import in_words
from probe.result import Overlay

Frames = npt.NDArray[np.uint8]
# (T, C, H, W) of a clip, None for a clip that is not at hand.
FramesOf = Callable[[str], "Frames | None"]
_LARGEST_SIDE = 160
# Of the worst clips.
_COUNT, _FRAMES = 10, 8
_RETRIEVED = frozenset(["clip_id", "patient_id", "best_clip_id", "best_patient_id", "average_precision"])
_QUERIES, _QUERY_FRAMES = 5, 6
_TRUE, _PREDICTED = (92, 196, 214), (240, 137, 111)
# Outlines are drawn on an enlarged frame, so that they hide no pixel of it.
_SIDE = 224


class ShardFrames:
    """Frames and their times from a folder of shards, or one already open; called with a clip's id.

    Raises EchofmError where it is no such folder.
    """

    def __init__(self, folder: str | Path | ShardSet) -> None:
        self._shards = folder if isinstance(folder, ShardSet) else ShardSet.open(folder, show_progress=False)
        self._places = {record.clip_id: place for place, record in enumerate(self._shards.records)}

    def __call__(self, clip_id: str) -> Frames | None:
        """(T, C, H, W); None for a clip that is not there."""
        place = self._places.get(clip_id)
        return None if place is None else self._shards.clip(place).frames_TCHW

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        """(T,) seconds; None where unknown."""
        place = self._places.get(clip_id)
        return None if place is None else self._shards.frame_time_s(place)


class FileFrames:
    """Frames of files under an encoder's contract; called with a clip's id. positions: where in the input each is."""

    def __init__(self, files: FileInput, positions: Mapping[str, Position]) -> None:
        self._files, self._places = files, positions
        self._held: dict[str, Clip | None] = {}

    def __call__(self, clip_id: str) -> Frames | None:
        """(T, C, H, W); None for a clip that is not there or cannot be read any more."""
        clip = self._clip(clip_id)
        return None if clip is None else clip.frames_TCHW

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        """(T,) seconds; None where unknown."""
        clip = self._clip(clip_id)
        return None if clip is None else clip.frame_time_s

    def names(self, patients: Mapping[str, str]) -> list[Name]:
        """The file behind each clip, for names.csv; no page shows them. patients: clip id to its patient's."""
        return self._files.names(self._places, patients)

    def hold(self, clip_ids: Sequence[str]) -> None:
        """Read clips at once and keep them until others are held: readers take longer to start than to read."""
        there = [clip_id for clip_id in dict.fromkeys(clip_ids) if clip_id in self._places]
        found = self._files.read([self._places[clip_id][0] for clip_id in there])
        self._held = {
            clip_id: each.all[self._places[clip_id][1]].clip if isinstance(each, Item) else None
            for clip_id, each in zip(there, found)
        }

    def _clip(self, clip_id: str) -> Clip | None:
        if clip_id not in self._held:
            self.hold([clip_id])
        return self._held.get(clip_id)


def read_ahead(frames_of: FramesOf, clip_ids: Sequence[str]) -> None:
    """Tell which clips will be asked for, where that spares time."""
    if isinstance(frames_of, FileFrames):
        frames_of.hold(clip_ids)


def evenly(frames_TCHW: Frames, count: int) -> Frames:
    """`count` frames from the first to the last, a short clip's repeated: (count, H, W) or (count, H, W, 3)."""
    return shown(frames_TCHW[np.linspace(0, len(frames_TCHW) - 1, count).round().astype(int)])


def shown(frames_TCHW: Frames) -> Frames:
    """As a film strip takes them, grey (T, H, W) or colour (T, H, W, 3), no side above 160 pixels."""
    frames = frames_TCHW[:, 0] if frames_TCHW.shape[1] == 1 else frames_TCHW.transpose(0, 2, 3, 1)
    height, width = frames.shape[1:3]
    if max(height, width) <= _LARGEST_SIDE:
        return frames
    scale = _LARGEST_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [Image.fromarray(np.ascontiguousarray(each)).resize(size, Image.Resampling.BILINEAR) for each in frames]
    return np.stack([np.asarray(each) for each in small])


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


def worst_clips(predictions: pd.DataFrame, *, task: str, classes: list[str]) -> WorstClips | None:
    """By absolute error; for classes by the probability that the true one was given; None for tasks without either."""
    columns = [f"probability_{name}" for name in classes]
    if task == "regression":
        by, error = "absolute error", (predictions["predicted"] - predictions["true"]).abs().to_numpy(float)
        shown = [predictions[name].map("{:.4g}".format) for name in ("true", "predicted")]
    elif not classes or not set(columns) <= set(predictions.columns):
        return None
    elif task == "multilabel":
        values = [predictions[names].to_numpy(float) for names in ([f"true_{name}" for name in classes], columns)]
        by, error = "mean distance of the probabilities from the truth", np.nanmean(np.abs(values[1] - values[0]), 1)
        shown = [pd.Series([_names(row, classes) for row in each > 0.5]) for each in values]
    else:
        shown = [predictions[name].astype(str) for name in ("true", "predicted")]
        place = pd.Index(classes).get_indexer(pd.Index(shown[0]))
        by = "1 - probability of the true class"
        error = 1 - predictions[columns].to_numpy(float)[np.arange(len(place)), place]
    rows = pd.DataFrame({name: predictions[name].astype(str).to_numpy() for name in ("clip_id", "patient_id")})
    rows = rows.assign(true=shown[0].to_numpy(), predicted=shown[1].to_numpy(), error=error)
    # A stable sort: of equal errors the first clip, whatever the version of pandas.
    worst = rows.iloc[np.argsort(-error, kind="stable")[:_COUNT]]
    return WorstClips(ranked_by=by, clips=[WorstClip(**row) for row in worst.to_dict("records")])


def _names(is_so_K: np.ndarray, classes: list[str]) -> str:
    return ", ".join(name for name, so in zip(classes, is_so_K) if so) or "none"


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
    caption = f"The same clips in the same order, {_FRAMES} frames from the first to the last: what is true, and what "
    caption += "the probe said."
    return [table, *_strip(strips, alt="frames of the test clips furthest off", caption=caption)]


def _strip(rows: Mapping[str, npt.NDArray[np.uint8]], *, alt: str, caption: str) -> list[Block]:
    """Nothing where no clip is at hand."""
    return [FilmStrip(rows=rows, alt=alt, caption=caption)] if rows else []


def retrieved(predictions: pd.DataFrame, *, frames_of: FramesOf) -> list[Block]:
    """Queries from the best to the worst answered, each above the clip found first; nothing for other predictions."""
    if not set(predictions.columns) >= _RETRIEVED or predictions.empty:
        return []
    # Of moments many are asked of one clip; a clip is shown once.
    ordered = predictions.sort_values("average_precision", ascending=False, kind="stable").drop_duplicates("clip_id")
    chosen = ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, _QUERIES).round().astype(int))]
    read_ahead(frames_of, chosen[["clip_id", "best_clip_id"]].to_numpy(str).ravel().tolist())
    strips = {}
    for number, (_, row) in enumerate(chosen.iterrows(), 1):
        pair = [frames_of(str(row[name])) for name in ("clip_id", "best_clip_id")]
        if pair[0] is None or pair[1] is None:
            continue
        same = "same patient" if row["patient_id"] == row["best_patient_id"] else "other patient"
        strips[f"{number}. asked, AP {row['average_precision']:.2f}"] = evenly(pair[0], _QUERY_FRAMES)
        strips[f"{number}. found, {same}"] = evenly(pair[1], _QUERY_FRAMES)
    return _strip(
        strips,
        alt="test clips asked for, each above the clip that the features find most like it",
        caption="Test clips from the best to the worst answered (AP: average precision), each above the clip found "
        "first.",
    )


def overlays(examples: Sequence[Overlay]) -> list[Block]:
    """A film strip: the frames, with true and with predicted outlines; nothing for no examples."""
    if not examples:
        return []
    drawn = {
        "frame": [_large(each.frame_HW) for each in examples],
        "true": [outlined(each.frame_HW, each.true_HW, colour=_TRUE) for each in examples],
        "predicted": [outlined(each.frame_HW, each.predicted_HW, colour=_PREDICTED) for each in examples],
    }
    return [
        FilmStrip(
            rows={name: np.stack(frames) for name, frames in drawn.items()},
            columns=[each.name for each in examples],
            alt="test frames with the true and the predicted outlines of the structures",
            caption="Test frames, with the true outlines below and the predicted ones below these.",
        )
    ]


def outlined(
    frame_HW: npt.NDArray[np.uint8], map_HW: npt.NDArray[np.uint8], *, colour: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """The frame enlarged to 224 pixels, (224, 224, 3), with the edge of every structure in a colour."""
    labels = np.asarray(Image.fromarray(map_HW).resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    inside = np.where(labels == NOT_ANNOTATED, 0, labels)
    edge = (scipy.ndimage.maximum_filter(inside, 3) != inside) | (scipy.ndimage.minimum_filter(inside, 3) != inside)
    picture = np.array(_large(frame_HW))
    picture[edge] = colour
    return picture


def _large(frame_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = Image.fromarray(np.ascontiguousarray(frame_HW)).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey.convert("RGB"))
