"""Leaflets: curved threads that swing about their hinges. Heart frame, mm; T frames, P points of a leaflet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.phantom.anatomy import Patient
from echofm.phantom.scene import Stream, Thread

Array = npt.NDArray[np.float64]

_SPACING_MM = 0.5


def leaflet(
    hinge_T2: Array,
    other_hinge_T2: Array,
    *,
    length_mm: float,
    closed_rad: float,
    open_rad: float,
    opening_T: Array,
    towards_T2: Array,
    bow: float,
    gain: float,
    rng: np.random.Generator,
) -> Thread:
    """A leaflet of fixed length hinged on an annulus.

    Its chord makes an angle with the annulus plane that goes from closed_rad to open_rad with the opening;
    towards_T2 is the unit vector of the side to which it opens. bow: sag over length when closed, to the other side;
    it straightens as the valve opens. gain: mean echo amplitude; the points keep their own in every frame.
    """
    plane_T2 = other_hinge_T2 - hinge_T2
    plane_T2 = plane_T2 / np.linalg.norm(plane_T2, axis=1, keepdims=True)
    angle_T1 = (closed_rad + opening_T * (open_rad - closed_rad))[:, None]
    chord_T2 = np.cos(angle_T1) * plane_T2 + np.sin(angle_T1) * towards_T2
    normal_T2 = -np.sin(angle_T1) * plane_T2 + np.cos(angle_T1) * towards_T2
    along_P = np.linspace(0, 1, max(8, int(length_mm / _SPACING_MM)))
    sag_TP = -bow * (1 - 1.6 * opening_T)[:, None] * 4 * along_P * (1 - along_P)
    points_TP2 = hinge_T2[:, None] + length_mm * (
        along_P[None, :, None] * chord_T2[:, None] + sag_TP[..., None] * normal_T2[:, None]
    )
    # Thicker towards the free edge, with its own fixed grain.
    gain_P = gain * (0.75 + 0.5 * along_P**2) * rng.rayleigh(0.8, len(along_P))
    return Thread(points_TP2=points_TP2, gain_P=gain_P)


def two_leaflets(
    hinges_TK2: Array,
    *,
    lengths_mm: tuple[float, float],
    opening_T: Array,
    open_rad: float,
    towards_T2: Array,
    gain: float,
    rng: np.random.Generator,
) -> list[Thread]:
    """Two leaflets that meet below the annulus when closed; hinges (T, 2, 2): leaflet, (across, along)."""
    annulus_mm = float(np.linalg.norm(hinges_TK2[0, 1] - hinges_TK2[0, 0]))
    lengths = [length * annulus_mm for length in lengths_mm]
    # The closed leaflets touch: a triangle over the annulus with these two sides.
    total = sum(lengths)
    cosines = [(annulus_mm**2 + lengths[i] ** 2 - lengths[1 - i] ** 2) / (2 * annulus_mm * lengths[i]) for i in (0, 1)]
    assert total > annulus_mm, "the leaflets are long enough to close the valve"
    return [
        leaflet(
            hinges_TK2[:, i],
            hinges_TK2[:, 1 - i],
            length_mm=lengths[i],
            closed_rad=float(np.arccos(np.clip(cosines[i], -1, 1))),
            open_rad=open_rad * (1.0 if i == 0 else 1.15),
            opening_T=opening_T,
            towards_T2=towards_T2,
            bow=0.07,
            gain=gain,
            rng=rng,
        )
        for i in (0, 1)
    ]


def stream(
    hinges_TK2: Array, *, patient: Patient, rate_T: Array, towards_T2: Array, area_cm2: float, length_mm: float
) -> Stream:
    """Blood through a valve: the stroke's flow (rate_T, strokes per second) over the valve's area."""
    stroke_ml = patient.edv_ml - patient.esv_ml
    annulus_mm = float(np.linalg.norm(hinges_TK2[0, 1] - hinges_TK2[0, 0]))
    return Stream(
        start_T2=hinges_TK2.mean(1),
        direction_T2=towards_T2,
        # ml/s over cm2 is cm/s.
        speed_T=rate_T * stroke_ml / area_cm2 / 100,
        width_mm=0.25 * annulus_mm,
        length_mm=length_mm,
    )
