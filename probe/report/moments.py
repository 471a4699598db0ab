"""The cardiac phase: curves of single clips, all moments together, like moments side by side.

T moments of a clip.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.metric.circular import circular_distance
from echofm.report.blocks import Block, FilmStrip, Panels, Picture
from probe.figures import cycle
from probe.report.frames import FramesOf, shown

COLUMNS = frozenset(["clip_id", "time_s", "true_phase", "predicted_phase"])
_EVENTS = {"ed": "end-diastole", "es": "end-systole"}
_PAIRS = 8


@runtime_checkable
class TimedFrames(Protocol):
    """Frames that also know when they were taken."""

    def __call__(self, clip_id: str) -> npt.NDArray[np.uint8] | None: ...

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        """(T,) seconds of the frames of a clip; None where unknown."""
        ...


def moments(predictions: pd.DataFrame, *, frames_of: FramesOf | None = None) -> list[Block]:
    """What the predictions of a phase probe show, a row per moment of known phase; nothing for other frames."""
    if not set(predictions.columns) >= COLUMNS or predictions.empty:
        return []
    blocks: list[Block] = [*_curves(predictions), _together(predictions)]
    if frames_of is not None and {"match_time_s", "hit"} <= set(predictions.columns):
        blocks += like_moments(predictions, frames_of)
    return blocks


def _curves(rows: pd.DataFrame) -> list[Block]:
    """The clips told best, middling and worst, by mean distance on the circle."""
    timed = rows[rows["time_s"].notna()]
    away = pd.Series(circular_distance(timed["predicted_phase"], timed["true_phase"]))
    error = away.groupby(timed["clip_id"].to_numpy(str)).mean().sort_values(kind="stable")
    if error.empty:
        return []
    places = dict.fromkeys([0, len(error) // 2, len(error) - 1])
    names = dict(zip(places, ("told best", "in the middle", "told worst")))
    drawn = []
    for place, name in names.items():
        clip = str(error.index[place])
        own = timed[timed["clip_id"].astype(str) == clip]
        values = [own[column].to_numpy(float) for column in ("time_s", "true_phase", "predicted_phase")]
        title = f"{name}: off by {100 * error.iloc[place]:.1f} % of a beat"
        drawn.append(
            Picture(
                draw=partial(cycle.phase_curve, *values, title=title),
                alt=f"true and predicted phase over time, clip {name}",
                caption=f"Clip {clip}.",
            )
        )
    return list(drawn)


def _together(rows: pd.DataFrame) -> Panels:
    true, said = (rows[column].to_numpy(float) for column in ("true_phase", "predicted_phase"))
    drawn = [
        Picture(
            draw=partial(cycle.phase_density, true, said),
            alt="predicted against true phase of all test moments",
            caption="All test moments. Phase is a circle: the corners of this picture touch.",
        )
    ]
    errors = _event_errors(rows)
    if errors:
        drawn.append(
            Picture(
                draw=partial(cycle.event_errors, errors),
                alt="errors of the predicted times of end-diastole and end-systole",
                caption=f"{sum(map(len, errors.values()))} events; those beyond the axis are counted at its ends.",
            )
        )
    return Panels(drawn)


def _event_errors(rows: pd.DataFrame) -> dict[str, npt.NDArray]:
    if not {"event", "event_error_ms"} <= set(rows.columns):
        return {}
    found = {}
    for event, name in _EVENTS.items():
        values = rows.loc[(rows["event"] == event).fillna(False), "event_error_ms"].dropna().to_numpy(float)
        if len(values):
            found[name] = values
    return found


def like_moments(rows: pd.DataFrame, frames_of: FramesOf) -> list[Block]:
    """Moments and what the features find most like them elsewhere in the clip, spread evenly over the clips asked."""
    asked = rows[rows["match_time_s"].notna() & rows["time_s"].notna()]
    if asked.empty or not isinstance(frames_of, TimedFrames):
        return []
    queries, matches, labels = [], [], []
    clips = list(dict.fromkeys(asked["clip_id"].astype(str)))
    for number, clip in enumerate(
        np.array(clips)[np.unique(np.linspace(0, len(clips) - 1, _PAIRS).round().astype(int))]
    ):
        frames, time_s = frames_of(clip), frames_of.time_s(clip)
        own = asked[asked["clip_id"].astype(str) == clip]
        if frames is None or time_s is None:
            continue
        # Not always the first moment: spread over the beat.
        row = own.iloc[(number * len(own)) // _PAIRS]
        pair = [int(np.abs(time_s - row[column]).argmin()) for column in ("time_s", "match_time_s")]
        small = shown(frames[pair])
        queries.append(small[0])
        matches.append(small[1])
        labels.append(
            f"{'same' if row['hit'] else 'other'} phase, {abs(row['match_time_s'] - row['time_s']):.1f} s apart"
        )
    if not queries or len({each.shape for each in queries}) > 1:
        return []
    return [
        FilmStrip(
            rows={"moment": np.stack(queries), "most like it": np.stack(matches)},
            columns=labels,
            alt="moments of clips above the moments of the same clip that the features find most like them",
            caption="Above a moment of a test clip, below the moment of that clip that the features find most like it.",
        )
    ]
