"""One heart cycle out of a clip's moments: its length from self-similarity, K phase bins, an origin that agrees.

T moments of a clip, K phase bins, D features, N clips.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# 150 and 40 beats a minute.
_SHORTEST_S, _LONGEST_S = 0.4, 1.5
# A repetition is only seen where the clip goes on after its first beat.
_MOST_OF_CLIP = 0.8
_ROUNDS = 10


def cycle_length_s(feature_TD: npt.NDArray[np.floating], time_s_T: Doubles) -> float | None:
    """Seconds after which the moments repeat; None where the clip is too short or nothing repeats.

    The first peak, among peaks nearly as high as the highest, of the mean cosine similarity between moments that lie so
    far apart, after the clip's mean and slow drift are taken out. time_s_T: rising; NaN: no length is found.
    """
    if len(feature_TD) < 6 or not np.isfinite(time_s_T).all():
        return None
    step_s = float(np.median(np.diff(time_s_T)))
    even_s = np.arange(time_s_T[0], time_s_T[-1] + step_s / 2, step_s)
    moments = _without_drift(_at(even_s, np.asarray(feature_TD, np.float64), time_s_T))
    length = np.linalg.norm(moments, axis=1, keepdims=True)
    moments = np.divide(moments, length, out=np.zeros_like(moments), where=length > 0)
    similarity_TT = moments @ moments.T
    lags = np.arange(len(moments))
    mean_L = np.array([np.diagonal(similarity_TT, lag).mean() for lag in lags])
    most = min(_LONGEST_S / step_s, _MOST_OF_CLIP * (len(moments) - 1))
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


def one_cycle(feature_TD: npt.NDArray[np.floating], time_s_T: Doubles, *, bins: int) -> Doubles | None:
    """(K, D) the clip's beats as one, resampled to K phases from an arbitrary origin, their mean taken out.

    Without its mean a cycle no longer says what the heart looks like, only how it moves. None without a cycle.
    """
    length_s = cycle_length_s(feature_TD, time_s_T)
    if length_s is None:
        return None
    since_s = np.asarray(time_s_T, np.float64) - time_s_T[0]
    beats = max(1, int(np.ceil(since_s[-1] / length_s)))
    wanted_s = (np.arange(beats)[:, None] + np.arange(bins) / bins) * length_s
    inside = wanted_s <= since_s[-1] + 1e-9
    drawn_BKD = _at(wanted_s, np.asarray(feature_TD, np.float64), since_s)
    cycle_KD = np.where(inside[..., None], drawn_BKD, 0).sum(0) / inside.sum(0)[:, None]
    return cycle_KD - cycle_KD.mean(0)


def common_template(cycle_NKD: Doubles) -> Doubles:
    """(K, D) the mean cycle after all were turned to agree with it (Procrustes over rotations in phase).

    Begins at the cycle that agrees best with the others, so that no draw decides.
    """
    sample = cycle_NKD[np.linspace(0, len(cycle_NKD) - 1, min(len(cycle_NKD), 64)).astype(int)]
    agreement = [sum(_agreement(each, other).max() for other in sample) for each in sample]
    template = sample[int(np.argmax(agreement))]
    for _ in range(_ROUNDS):
        turned = np.stack([turn_to(template, each) for each in cycle_NKD])
        template = turned.mean(0)
    return template


def turn_to(template_KD: Doubles, cycle_KD: Doubles) -> Doubles:
    """The cycle, begun at the phase where it agrees best with the template."""
    return np.roll(cycle_KD, -int(_agreement(template_KD, cycle_KD).argmax()), axis=0)


def _agreement(template_KD: Doubles, cycle_KD: Doubles) -> Doubles:
    """(K,) inner product of the template with the cycle begun at each phase."""
    spectrum = np.fft.rfft(cycle_KD, axis=0) * np.conj(np.fft.rfft(template_KD, axis=0))
    return np.fft.irfft(spectrum.sum(1), len(template_KD))


def _at(wanted_s: Doubles, feature_TD: Doubles, time_s_T: Doubles) -> Doubles:
    """(..., D) the moments at the wanted times, linear between neighbours, the outermost beyond the ends."""
    after = np.clip(np.searchsorted(time_s_T, wanted_s), 1, len(time_s_T) - 1)
    share = (wanted_s - time_s_T[after - 1]) / (time_s_T[after] - time_s_T[after - 1])
    share = np.clip(share, 0, 1)[..., None]
    return (1 - share) * feature_TD[after - 1] + share * feature_TD[after]


def _without_drift(feature_TD: Doubles) -> Doubles:
    """The moments without their mean and straight-line drift."""
    time = np.linspace(-1, 1, len(feature_TD))
    basis = np.stack([np.ones_like(time), time], 1)
    return feature_TD - basis @ np.linalg.lstsq(basis, feature_TD, rcond=None)[0]
