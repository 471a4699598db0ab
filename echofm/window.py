"""Windows: which frames of a clip make one fixed-length input of a model, and how tissue moves between them.

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

Field = npt.NDArray[np.float16]

# Far below any frame interval, far above the rounding of seconds in float64.
_TOLERANCE_S = 1e-6


def nearest_frames(frame_time_s: Times, wanted_s: Times) -> Indices:
    """Index of the frame nearest in time to each wanted time; the later one of two at equal distance."""
    return np.searchsorted((frame_time_s[:-1] + frame_time_s[1:]) / 2, wanted_s + _TOLERANCE_S, side="right")


class Windows:
    """The windows of `length` frames of one clip, each named by the time at which it starts.

    frame_time_s: (T,) seconds, strictly increasing; None where unknown. n_frames: T. frame_rate_hz: of the windows;
    None takes consecutive frames from the one nearest to the start.
    """

    def __init__(self, frame_time_s: Times | None, n_frames: int, *, length: int, frame_rate_hz: float | None) -> None:
        assert n_frames > 0 and length > 0 and (frame_time_s is None or len(frame_time_s) == n_frames)
        self._length, self._rate_hz = length, None if frame_time_s is None else frame_rate_hz
        self._frame_time_s = frame_time_s
        self._clock_T = (
            np.arange(n_frames, dtype=np.float64) if frame_time_s is None else frame_time_s - frame_time_s[0]
        )

    def indices(self, start_s: float = 0.0) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """Frames of one window: the nearest to start_s + k / frame_rate_hz for k = 0 .. length - 1.

        A window that runs past the clip's end goes on at the clip's first frame (never zeros, never blended speckle).
        start_s: seconds after the first frame; frames where the times are unknown.

        Returns indices_L, int64 in [0, T), and valid_L, False on frames that repeat the clip as it was too short.
        """
        assert start_s >= 0
        clock_T, period_s = self._clock_T, self.period_s
        if self._rate_hz is None:
            steps = int(nearest_frames(clock_T, np.array(start_s))) + np.arange(self._length, dtype=np.int64)
            return steps % len(clock_T), steps < len(clock_T)
        wanted_s = start_s + np.arange(self._length) / self._rate_hz
        last_interval_s = period_s - clock_T[-1]
        valid_L = wanted_s < clock_T[-1] + last_interval_s / 2 + _TOLERANCE_S
        looped_s = np.where(valid_L, wanted_s, (wanted_s + _TOLERANCE_S) % period_s)
        return nearest_frames(clock_T, looped_s), valid_L

    @property
    def period_s(self) -> float:
        """How long the clip lasts, its last frame included: the period at which a short clip is looped."""
        if len(self._clock_T) > 1:
            return float(self._clock_T[-1] + np.median(np.diff(self._clock_T)))
        return 1.0 if self._rate_hz is None else 1.0 / self._rate_hz

    @property
    def starts_s(self) -> Times:
        """The clock of every frame at which a whole window can start; the first alone where the clip is too short."""
        clock_T = self._clock_T
        if self._rate_hz is None:
            return clock_T[: max(1, len(clock_T) - self._length + 1)]
        end_s = clock_T[-1] + (self.period_s - clock_T[-1]) / 2 - (self._length - 1) / self._rate_hz
        return clock_T[: max(1, int(np.searchsorted(clock_T, end_s + _TOLERANCE_S)))]

    def random_start_s(self, uniform: float) -> float:
        """The start that `uniform` in [0, 1) draws: every frame at which a whole window can start is equally likely."""
        starts_s = self.starts_s
        return float(starts_s[int(uniform * len(starts_s))])

    def even_starts_s(self, count: int | None) -> list[float]:
        """`count` starts spread evenly from the first possible to the last, fewer where the clip has fewer.

        count=1: the window in the clip's middle. count=None: as many as cover the whole clip.
        """
        assert count is None or count > 0
        starts_s = self.starts_s
        if count is None:
            steps = len(starts_s) - 1 if self._rate_hz is None else starts_s[-1] * self._rate_hz
            count = 1 + int(np.ceil(steps / self._length - _TOLERANCE_S))
        middle = (len(starts_s) - 1) / 2
        positions = np.linspace(0, len(starts_s) - 1, count) if count > 1 else np.array([middle])
        return [float(starts_s[index]) for index in np.unique(np.round(positions).astype(np.int64))]

    def starts_showing_s(self, frame: int) -> list[float]:
        """The starts of all windows that show a frame, by its position in them; below 0 there is none."""
        if self._rate_hz is None:
            return self._clock_T[frame::-1][: self._length].tolist()
        return (self._clock_T[frame] - np.arange(self._length) / self._rate_hz).tolist()

    def time_s(self, indices_L: Indices) -> Times:
        """Seconds of a window's frames after its first; a looped clip's time runs on by its period. NaN: unknown."""
        if self._frame_time_s is None:
            return np.full(len(indices_L), np.nan)
        loops_L = np.concatenate([[0], np.cumsum(np.diff(indices_L) < 0)])
        time_L = self._frame_time_s[indices_L] + loops_L * self.period_s
        return time_L - time_L[0]


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
