"""How soon a clip's frames repeat: self-similarity at each distance in time, and the heart cycle's length from it.

T frames of a clip, L distances, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import detrend

Doubles = npt.NDArray[np.float64]

# 150 and 40 beats a minute.
_SHORTEST_S, _LONGEST_S = 0.4, 1.5
# A repetition is only seen where the clip goes on after its first beat.
_MOST_OF_CLIP = 0.8


def repetition(feature_TD: npt.NDArray[np.floating], time_s_T: Doubles) -> tuple[float, Doubles] | None:
    """Step in seconds and (L,) the mean cosine similarity of frames that lie 0, 1, ... steps apart.

    The clip's mean and straight-line drift are taken out first. time_s_T: rising; None where a time is NaN or there are
    fewer than six frames.
    """
    if len(feature_TD) < 6 or not np.isfinite(time_s_T).all():
        return None
    step_s = float(np.median(np.diff(time_s_T)))
    even_s = np.arange(time_s_T[0], time_s_T[-1] + step_s / 2, step_s)
    frames = detrend(at_times(even_s, np.asarray(feature_TD, np.float64), time_s_T), axis=0)
    length = np.linalg.norm(frames, axis=1, keepdims=True)
    frames = np.divide(frames, length, out=np.zeros_like(frames), where=length > 0)
    similarity_TT = frames @ frames.T
    return step_s, np.array([np.diagonal(similarity_TT, lag).mean() for lag in range(len(frames))])


def cycle_length_s(feature_TD: npt.NDArray[np.floating], time_s_T: Doubles) -> float | None:
    """Seconds after which the frames repeat, from their `repetition`; None where the clip is too short or nothing
    repeats."""
    found = repetition(feature_TD, time_s_T)
    return None if found is None else first_return_s(*found)


def first_return_s(step_s: float, mean_L: Doubles) -> float | None:
    """Seconds of the first peak of a `repetition` among the peaks nearly as high as the highest; None without one."""
    lags = np.arange(len(mean_L))
    most = min(_LONGEST_S / step_s, _MOST_OF_CLIP * (len(mean_L) - 1))
    inner = lags[1:-1]
    peak = (mean_L[1:-1] >= mean_L[:-2]) & (mean_L[1:-1] > mean_L[2:])
    peaks = inner[peak & (inner >= _SHORTEST_S / step_s) & (inner <= most)]
    if len(peaks) == 0:
        return None
    # Two beats repeat as well as one: the first peak that is nearly the best is the beat.
    high = mean_L[peaks].max()
    best = int(peaks[np.argmax(mean_L[peaks] >= high - 0.15 * abs(high))])
    left, middle, right = mean_L[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float((best + (0.5 * (left - right) / bend if bend < 0 else 0.0)) * step_s)


def at_times(wanted_s: Doubles, feature_TD: Doubles, time_s_T: Doubles) -> Doubles:
    """(..., D) the frames at the wanted times, linear between neighbours, the outermost beyond the ends."""
    after = np.clip(np.searchsorted(time_s_T, wanted_s), 1, len(time_s_T) - 1)
    share = (wanted_s - time_s_T[after - 1]) / (time_s_T[after] - time_s_T[after - 1])
    share = np.clip(share, 0, 1)[..., None]
    return (1 - share) * feature_TD[after - 1] + share * feature_TD[after]
