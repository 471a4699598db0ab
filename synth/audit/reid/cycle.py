"""One heart cycle out of a clip's frames: K phase bins, an origin that agrees.

T frames of a clip, K phase bins, D features, N clips.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.embed.rhythm import at_times, cycle_length_s

Doubles = npt.NDArray[np.float64]

_ROUNDS = 10


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
    drawn_BKD = at_times(wanted_s, np.asarray(feature_TD, np.float64), since_s)
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
