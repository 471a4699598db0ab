"""Where a clip is fullest and emptiest, from how its pictures resemble one another: no outline, no label.

T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import detrend, find_peaks
from skimage.transform import downscale_local_mean

from echofm.embed.rhythm import cycle_length_s
from synth.mafe.flow import dis_flow, divergence

Doubles = npt.NDArray[np.float64]

# As the pixel prior of pretraining sees a frame.
_SIDE = 32
# Of a cycle: what the course is smoothed over, and how far two fullest frames lie apart at least.
_SMOOTH, _APART = 0.04, 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Beats:
    """course_T: how full the heart is in every frame, no unit, fuller is higher. cycle_s: seconds of a beat.

    pairs: frames (fullest, emptiest after it) of every beat that shows both, in time order; may be none.
    """

    course_T: Doubles
    cycle_s: float
    pairs: list[tuple[int, int]]


def find_beats(frames_THW: npt.NDArray[np.uint8], time_s_T: Doubles) -> Beats | None:
    """A clip's beats by self-similarity; None where nothing repeats or the clip is shorter than a beat.

    The leading direction of the frames' similarity (their thumbnails without mean, brightness and drift) follows the
    ventricle's area: on five real clips their correlation is .74 to .97. Which end of it is full: from there to the
    other end tissue draws together, so the flow between them has a negative divergence (in all five).
    """
    thumbnail_TD = thumbnails(frames_THW)
    cycle_s = cycle_length_s(thumbnail_TD, time_s_T)
    if cycle_s is None:
        return None
    frame_s = float(np.median(np.diff(time_s_T)))
    change_TD = detrend(thumbnail_TD, axis=0)
    # The leading eigenvector of the similarity matrix, by which frames are ordered.
    _, vector_TT = np.linalg.eigh(change_TD @ change_TD.T)
    course_T = gaussian_filter1d(vector_TT[:, -1], _SMOOTH * cycle_s / frame_s)
    apart = max(1, int(_APART * cycle_s / frame_s))
    sign = 1 if _contracts(frames_THW[course_T.argmax()], frames_THW[course_T.argmin()]) else -1
    return Beats(course_T=sign * course_T, cycle_s=cycle_s, pairs=_pairs(sign * course_T, apart))


def _contracts(origin_HW: npt.NDArray[np.uint8], target_HW: npt.NDArray[np.uint8]) -> bool:
    """Whether tissue draws together from one frame to the other; asked both ways, as a flow is not its own inverse."""
    one = divergence(dis_flow(origin_HW, target_HW))[origin_HW > 0].mean()
    other = divergence(dis_flow(target_HW, origin_HW))[target_HW > 0].mean()
    return bool(one < other)


def thumbnails(frames_THW: npt.NDArray[np.number]) -> Doubles:
    """(T, D) pooled to about 32 x 32, each less its mean."""
    blocks = tuple(max(1, round(side / _SIDE)) for side in frames_THW.shape[1:])
    small = downscale_local_mean(frames_THW.astype(np.float64) / 255, (1, *blocks)).reshape(len(frames_THW), -1)
    return small - small.mean(1, keepdims=True)


def _pairs(course_T: Doubles, apart: int) -> list[tuple[int, int]]:
    """Each highest frame with the lowest before the next highest, that is after it."""
    highest = find_peaks(course_T, distance=apart, prominence=0.25 * np.ptp(course_T))[0]
    pairs = []
    for number, first in enumerate(highest.tolist()):
        stop = highest[number + 1] if number + 1 < len(highest) else min(len(course_T), first + apart)
        last = first + int(course_T[first:stop].argmin())
        # The lowest at the very end may still be falling.
        if first < last < len(course_T) - 1:
            pairs.append((first, last))
    return pairs
