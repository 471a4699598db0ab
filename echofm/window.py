"""Windows: which frames of a clip make one fixed-length input of a model.

A clip's clock is its frame times in seconds. Where those are unknown the clock ticks once a frame, a start counts
ticks instead of seconds, and a window is of consecutive frames whatever rate is asked for. T frames of the clip,
L frames of the window.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# Far below any frame interval, far above the rounding of seconds in float64.
_TOLERANCE_S = 1e-6


def nearest_frames(frame_time_s: Times, wanted_s: Times) -> Indices:
    """Index of the frame nearest in time to each wanted time; the later one of two at equal distance."""
    return np.searchsorted((frame_time_s[:-1] + frame_time_s[1:]) / 2, wanted_s + _TOLERANCE_S, side="right")


def window_indices(
    frame_time_s: Times | None, n_frames: int, *, length: int, frame_rate_hz: float | None, start_s: float = 0.0
) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Frames of one window: the nearest to start_s + k / frame_rate_hz for k = 0 .. length - 1.

    A window that runs past the clip's end goes on at the clip's first frame (never zeros, never blended speckle).

    Parameters
    ----------
    frame_time_s: (T,) seconds, strictly increasing; None where unknown.
    n_frames: T.
    frame_rate_hz: frames per second of the window; None takes consecutive frames from the one nearest to start_s.
    start_s: seconds after the first frame; frames where the times are unknown.

    Returns
    -------
    indices_L: int64 in [0, T). valid_L: bool, False on frames that repeat the clip because it was too short.
    """
    assert n_frames > 0 and length > 0 and start_s >= 0
    if frame_time_s is None or frame_rate_hz is None:
        clock = _clock(frame_time_s, n_frames)
        steps = int(nearest_frames(clock, np.array(start_s))) + np.arange(length, dtype=np.int64)
        return steps % n_frames, steps < n_frames
    clock = _clock(frame_time_s, n_frames)
    wanted_s = start_s + np.arange(length) / frame_rate_hz
    period_s = clip_period_s(frame_time_s, n_frames, frame_rate_hz=frame_rate_hz)
    last_interval_s = period_s - clock[-1]
    valid_L = wanted_s < clock[-1] + last_interval_s / 2 + _TOLERANCE_S
    looped_s = np.where(valid_L, wanted_s, (wanted_s + _TOLERANCE_S) % period_s)
    return nearest_frames(clock, looped_s), valid_L


def clip_period_s(frame_time_s: Times | None, n_frames: int, *, frame_rate_hz: float | None) -> float:
    """How long the clip lasts, its last frame included: the period at which a short clip is looped."""
    clock = _clock(frame_time_s, n_frames)
    if n_frames > 1:
        return float(clock[-1] + np.median(np.diff(clock)))
    return 1.0 / frame_rate_hz if frame_time_s is not None and frame_rate_hz is not None else 1.0


def start_times_s(frame_time_s: Times | None, n_frames: int, *, length: int, frame_rate_hz: float | None) -> Times:
    """The clock of every frame at which a whole window can start; of the first alone where the clip is too short."""
    clock = _clock(frame_time_s, n_frames)
    if frame_time_s is None or frame_rate_hz is None:
        return clock[: max(1, n_frames - length + 1)]
    half_interval_s = (clip_period_s(frame_time_s, n_frames, frame_rate_hz=frame_rate_hz) - clock[-1]) / 2
    end_s = clock[-1] + half_interval_s - (length - 1) / frame_rate_hz
    return clock[: max(1, int(np.searchsorted(clock, end_s + _TOLERANCE_S)))]


def random_start_s(
    frame_time_s: Times | None, n_frames: int, *, length: int, frame_rate_hz: float | None, uniform: float
) -> float:
    """The start that `uniform` in [0, 1) draws: every frame at which a whole window can start is equally likely."""
    starts = start_times_s(frame_time_s, n_frames, length=length, frame_rate_hz=frame_rate_hz)
    return float(starts[int(uniform * len(starts))])


def even_starts_s(
    frame_time_s: Times | None, n_frames: int, *, length: int, frame_rate_hz: float | None, count: int | None
) -> list[float]:
    """`count` starts spread evenly from the first possible to the last, fewer where the clip has fewer.

    count=1: the window in the clip's middle. count=None: as many as cover the whole clip.
    """
    assert count is None or count > 0
    starts = start_times_s(frame_time_s, n_frames, length=length, frame_rate_hz=frame_rate_hz)
    if count is None:
        if frame_time_s is None or frame_rate_hz is None:
            windows = (len(starts) - 1) / length
        else:
            windows = starts[-1] * frame_rate_hz / length
        count = 1 + int(np.ceil(windows - _TOLERANCE_S))
    positions = np.linspace(0, len(starts) - 1, count) if count > 1 else np.array([(len(starts) - 1) / 2])
    return [float(starts[index]) for index in np.unique(np.round(positions).astype(np.int64))]


def window_time_s(frame_time_s: Times, indices_L: Indices) -> Times:
    """Seconds of a window's frames after its first; a looped clip's time runs on by its period."""
    period_s = clip_period_s(frame_time_s, len(frame_time_s), frame_rate_hz=None)
    loops_L = np.concatenate([[0], np.cumsum(np.diff(indices_L) < 0)])
    time_L = frame_time_s[indices_L] + loops_L * period_s
    return time_L - time_L[0]


def _clock(frame_time_s: Times | None, n_frames: int) -> Times:
    if frame_time_s is None:
        return np.arange(n_frames, dtype=np.float64)
    assert len(frame_time_s) == n_frames
    return frame_time_s - frame_time_s[0]


Field = npt.NDArray[np.float16]


def between(displacement_px_T2HW: Field, indices_L: npt.NDArray[np.int64]) -> Field:
    """(L, 2, H, W) pixels (right, down) from each chosen frame to the next chosen one.

    u(a -> c)(x) = u(a -> b)(x) + u(b -> c)(x + u(a -> b)(x)), read bilinearly. 0 where a frame is repeated; NaN in the
    last, which has no next, and where a window begins the clip anew.

    displacement_px_T2HW: from each frame to the next, NaN in the last.
    """
    moved_L2HW = np.full((len(indices_L), *displacement_px_T2HW.shape[1:]), np.nan, displacement_px_T2HW.dtype)
    for moved_2HW, (first, last) in zip(moved_L2HW, itertools.pairwise(indices_L.tolist())):
        if first <= last:
            moved_2HW[:] = _chained(displacement_px_T2HW[first:last])
    return moved_L2HW


def _chained(steps_T2HW: Field) -> npt.NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    total_2HW = np.zeros(steps_T2HW.shape[1:], np.float32)
    rows, columns = np.indices(total_2HW.shape[1:])
    for number, step_2HW in enumerate(steps_T2HW.astype(np.float32)):
        if number == 0:
            total_2HW += step_2HW
            continue
        reached = np.stack([rows + total_2HW[1], columns + total_2HW[0]])
        total_2HW += np.stack([map_coordinates(part_HW, reached, order=1, mode="nearest") for part_HW in step_2HW])
    return total_2HW
