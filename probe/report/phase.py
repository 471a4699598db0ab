"""The cardiac phase: curves of single clips, all time points together, like ones side by side.

T time points of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from echofm.metric.circular import circular_distance
from echofm.report.blocks import Block, FilmStrip, Panels, Picture
from probe.report.canvas import WIDE, canvas, ink
from probe.report.clips import FramesOf, shown

COLUMNS = frozenset(["clip_id", "time_s", "true_phase", "predicted_phase"])
_EVENTS = {"ed": "end-diastole", "es": "end-systole"}
_PAIRS = 8


def phase_blocks(predictions: pd.DataFrame, *, frames_of: FramesOf | None = None) -> list[Block]:
    """What the predictions of a phase probe show, a row per time point of known phase; nothing for other frames."""
    if not set(predictions.columns) >= COLUMNS or predictions.empty:
        return []
    blocks: list[Block] = [*_curves(predictions), _together(predictions)]
    if frames_of is not None and {"match_time_s", "hit"} <= set(predictions.columns):
        blocks += like_frames(predictions, frames_of)
    return blocks


def event_blocks(predictions: pd.DataFrame) -> list[Block]:
    """Errors of the times of both events, a row per clip; nothing for other frames."""
    columns = {f"{event}_error_ms": name for event, name in _EVENTS.items()}
    if not set(columns) <= set(predictions.columns):
        return []
    errors = {name: predictions[column].dropna().to_numpy(float) for column, name in columns.items()}
    return [
        Picture(
            draw=partial(event_histogram, {name: each for name, each in errors.items() if len(each)}),
            alt="errors of the predicted times of end-diastole and end-systole",
            caption="Predicted minus traced time; those beyond the axis are counted at its ends.",
        )
    ]


def _curves(rows: pd.DataFrame) -> list[Block]:
    """The clips told best, middling and worst, by mean distance on the circle."""
    timed = rows[rows["time_s"].notna()]
    away = pd.Series(circular_distance(timed["predicted_phase"], timed["true_phase"]))
    error = away.groupby(timed["clip_id"].to_numpy(str)).mean().sort_values(kind="stable")
    if error.empty:
        return []
    positions = dict.fromkeys([0, len(error) // 2, len(error) - 1])
    names = dict(zip(positions, ("told best", "in the middle", "told worst")))
    drawn = []
    for place, name in names.items():
        clip = str(error.index[place])
        own = timed[timed["clip_id"].astype(str) == clip]
        values = [own[column].to_numpy(float) for column in ("time_s", "true_phase", "predicted_phase")]
        title = f"{name}: off by {100 * error.iloc[place]:.1f} % of a beat"
        drawn.append(
            Picture(
                draw=partial(phase_curve, *values, title=title),
                alt=f"true and predicted phase over time, clip {name}",
                caption=f"Clip {clip}.",
            )
        )
    return list(drawn)


def _together(rows: pd.DataFrame) -> Panels:
    drawn = [
        Picture(
            draw=partial(phase_density, *(rows[name].to_numpy(float) for name in ("true_phase", "predicted_phase"))),
            alt="predicted against true phase of all test moments",
            caption="All test moments. Phase is a circle: the corners of this picture touch.",
        )
    ]
    if errors := _event_errors(rows):
        drawn.append(
            Picture(
                draw=partial(event_histogram, errors),
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


def like_frames(rows: pd.DataFrame, frames_of: FramesOf) -> list[Block]:
    """Time points and what the features find most like them in the clip, spread evenly over the clips asked."""
    asked = rows[rows["match_time_s"].notna() & rows["time_s"].notna()]
    # Some frames know when they were taken.
    time_of = getattr(frames_of, "time_s", None)
    if asked.empty or time_of is None:
        return []
    queries, matches, labels = [], [], []
    clips = asked["clip_id"].astype(str).unique()
    for number, clip in enumerate(clips[np.unique(np.linspace(0, len(clips) - 1, _PAIRS).round().astype(int))]):
        frames, time_s = frames_of(clip), time_of(clip)
        own = asked[asked["clip_id"].astype(str) == clip]
        if frames is None or time_s is None:
            continue
        # Not always the first: spread over the beat.
        row = own.iloc[(number * len(own)) // _PAIRS]
        pair = [int(np.abs(time_s - row[column]).argmin()) for column in ("time_s", "match_time_s")]
        small = shown(frames[pair])
        queries.append(small[0])
        matches.append(small[1])
        apart_s = abs(row["match_time_s"] - row["time_s"])
        labels.append(f"{'same' if row['hit'] else 'other'} phase, {apart_s:.1f} s apart")
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


def phase_curve(time_s_T: npt.NDArray, true_T: npt.NDArray, predicted_T: npt.NDArray, *, title: str) -> Figure:
    """True phase as a line, predicted phase as dots, both in [0, 1) over time; a line breaks where a beat begins."""
    figure, axes = canvas((WIDE[0], 2.4))
    order = np.argsort(time_s_T)
    time, true, predicted = (np.asarray(each, float)[order] for each in (time_s_T, true_T, predicted_T))
    # A phase that falls is a new beat; joined, it would look like a fast movement back.
    begins = np.flatnonzero(np.diff(true) < 0) + 1
    axes.plot(
        np.insert(time, begins, np.nan), np.insert(true, begins, np.nan), color=ink(axes), linewidth=1.1, label="true"
    )
    axes.scatter(time, predicted, s=14, color="C1", linewidths=0, label="predicted", zorder=3)
    axes.set(title=title, xlabel="time (s)", ylabel="phase (part of beat)", ylim=(-0.05, 1.05))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderpad=0, ncols=2)
    return figure


def phase_density(true_P: npt.NDArray, predicted_P: npt.NDArray, *, bins: int = 32) -> Figure:
    """How often which phase is said for which true one; a band along the diagonal is right, the corners touch."""
    figure, axes = canvas()
    counts, _, _ = np.histogram2d(true_P, predicted_P, bins=bins, range=[[0, 1], [0, 1]])
    share = counts.T / np.maximum(1, counts.sum(1))
    image = axes.imshow(share, origin="lower", extent=(0, 1, 0, 1), cmap="cividis", vmin=0, interpolation="nearest")
    axes.set(xlabel="true phase (fraction of beat)", ylabel="predicted phase")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="part of the moments of a true phase", shrink=0.85)
    return figure


def event_histogram(errors_ms: Mapping[str, npt.NDArray]) -> Figure:
    """Histogram of predicted minus true time per event, e.g. "end-diastole"; a dotted line at the median."""
    figure, axes = canvas()
    every = np.concatenate(list(errors_ms.values()))
    reach = float(max(20.0, np.quantile(np.abs(every), 0.99)))
    edges = np.linspace(-reach, reach, 31).tolist()
    for number, (name, values) in enumerate(errors_ms.items()):
        middle = float(np.median(values))
        label = f"{name}, median {middle:+.0f} ms"
        axes.hist(
            np.clip(values, -reach, reach), edges, histtype="step", linewidth=1.5, color=f"C{number}", label=label
        )
        axes.axvline(middle, color=f"C{number}", linewidth=0.9, linestyle=":")
    axes.set(xlabel="predicted - true (ms)", ylabel="events")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure
