"""The cardiac cycle: when beats fall, and the curves of volume, valves and flow over one beat.

A beat runs from end-diastole to end-diastole: isovolumic contraction, ejection, isovolumic relaxation, rapid filling,
diastasis, atrial kick (absent in atrial fibrillation). Ejection time after Weissler et al., Circulation 1968
(https://doi.org/10.1161/01.CIR.37.2.149): 413 - 1.7 x rate, in ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from echofm.phantom.anatomy import Patient, generator

Curve = npt.NDArray[np.float64]

_CONTRACTION_S, _RELAXATION_S, _RAPID_FILLING_S, _KICK_S = 0.045, 0.075, 0.16, 0.12


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """The curves of one clip, each (T,).

    phase_T: time since end-diastole over the beat's length, in [0, 1). systole_T: its value at that beat's end-systole.
    volume_T: share of the stroke still in the ventricle, 1 end-diastole .. 0 end-systole.
    filling_T, ejection_T: strokes per second through the mitral and the aortic valve, >= 0.
    mitral_T, aortic_T: opening, 0 closed .. 1 wide open.
    onset_s: end-diastoles from the last before the clip to the first after it.
    """

    phase_T: Curve
    systole_T: Curve
    volume_T: Curve
    filling_T: Curve
    ejection_T: Curve
    mitral_T: Curve
    aortic_T: Curve
    onset_s: Curve

    @property
    def beat_s(self) -> Curve:
        """Length of every beat that the clip touches."""
        return np.diff(self.onset_s)


def draw_onsets(patient: Patient, clip: int, duration_s: float) -> Curve:
    """End-diastoles (s) that cover [0, duration]; the clip starts anywhere in a beat."""
    rng = generator(patient.seed, "beats", patient.number, clip)
    mean_s = 60 / patient.heart_rate_bpm
    onset = -float(rng.uniform(0, 1)) * mean_s
    breath_s, breath_phase = rng.uniform(3, 5), rng.uniform(0, 2 * np.pi)
    onsets = [onset]
    while onsets[-1] <= duration_s:
        if patient.rhythm == "atrial_fibrillation":
            beat = mean_s * float(np.clip(rng.normal(1, 0.2), 0.62, 1.6))
        elif patient.rhythm == "respiratory":
            beat = mean_s * (1 + 0.08 * np.sin(2 * np.pi * onsets[-1] / breath_s + breath_phase))
        else:
            beat = mean_s * (1 + 0.004 * rng.standard_normal())
        onsets.append(onsets[-1] + float(beat))
    return np.array(onsets)


def cycle_curves(time_s: Curve, onset_s: Curve, *, atrial_kick: bool) -> Cycle:
    """The curves at these times; `onset_s` must bracket them."""
    beat = np.clip(np.searchsorted(onset_s, time_s, side="right") - 1, 0, len(onset_s) - 2)
    columns = np.zeros((7, len(time_s)))
    for index in np.unique(beat):
        here = beat == index
        length = onset_s[index + 1] - onset_s[index]
        columns[:, here] = _one_beat(time_s[here] - onset_s[index], length, atrial_kick)
    names = ("phase_T", "systole_T", "volume_T", "filling_T", "ejection_T", "mitral_T", "aortic_T")
    return Cycle(onset_s=onset_s, **dict(zip(names, columns, strict=True)))


def _one_beat(since_s: Curve, length_s: float, atrial_kick: bool) -> Curve:
    """(7, n): phase, systole, volume, filling, ejection, mitral, aortic at times since end-diastole."""
    ejection = min(0.413 - 0.0017 * 60 / length_s, 0.42 * length_s)
    opens = min(_CONTRACTION_S, 0.08 * length_s)
    end_systole = opens + ejection
    fills = end_systole + min(_RELAXATION_S, 0.1 * length_s)
    diastole = length_s - fills
    early_end = fills + min(_RAPID_FILLING_S, 0.5 * diastole)
    kick = length_s - min(_KICK_S, 0.35 * diastole)
    early, late = (0.66, 0.76) if atrial_kick else (0.84, 0.97)
    volume = PchipInterpolator(
        [0, opens, opens + 0.4 * ejection, end_systole, fills, early_end, kick, length_s],
        [1, 1, 0.42, 0, 0, early, late, 1],
    )
    rate = volume.derivative()(since_s)
    middle = (fills + early_end) / 2
    mitral = PchipInterpolator(
        [0, end_systole, fills - 0.2 * (fills - end_systole), middle, early_end, kick, (kick + length_s) / 2, length_s],
        [0, 0, 0, 1, 0.45, 0.35, 0.75 if atrial_kick else 0.3, 0],
    )
    aortic = PchipInterpolator(
        [0, opens, opens + 0.12 * ejection, opens + 0.8 * ejection, end_systole, length_s], [0, 0, 1, 0.85, 0, 0]
    )
    systole = np.full_like(since_s, end_systole / length_s)
    phase = np.minimum(since_s / length_s, np.nextafter(1, 0))
    curves = (phase, systole, volume(since_s), np.maximum(rate, 0), np.maximum(-rate, 0))
    return np.stack([*curves, mitral(since_s), aortic(since_s)])
