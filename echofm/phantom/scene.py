"""Scene: one view of one heart as the imaging needs it: tissue and its echo painted at end-diastole, motion, threads.

Shapes: T frames, N rows (along) and M columns (across) of the painted plane, P points of a thread.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from echofm.phantom.acquisition import VIEWS
from echofm.phantom.anatomy import Patient, generator
from echofm.phantom.cycle import Cycle
from echofm.phantom.layers import Extent, MotionTables

Array = npt.NDArray[np.float64]

PAINT_STEP_MM = 0.6
OUTLINE_POINTS = 21

_ALONG_BEAM = 0.55
_SPACING_MM = 0.5


class Tissue(enum.IntEnum):
    """What a painted pixel is."""

    OUTSIDE = 0
    LV = 1
    MYOCARDIUM = 2
    LA = 3
    RV = 4
    RA = 5
    AORTA = 6
    RV_WALL = 7
    ATRIAL_WALL = 8
    FIBROUS = 9
    PAPILLARY = 10


BLOOD = (Tissue.LV, Tissue.LA, Tissue.RV, Tissue.RA, Tissue.AORTA)


@dataclass(frozen=True, kw_only=True, eq=False)
class Thread:
    """A thin bright structure (leaflet, chord, reflector): points in the heart frame now, about 0.5 mm apart.

    points_TP2: (across, along) mm. gain_P: echo amplitude of each point.
    """

    points_TP2: Array
    gain_P: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Blood through an open valve: a tapering jet, for colour Doppler.

    start_T2, direction_T2: heart frame, mm and unit vector. speed_T: m/s on its axis, 0 where the valve is closed.
    width_mm at the start, length_mm to where it has died away.
    """

    start_T2: Array
    direction_T2: Array
    speed_T: Array
    width_mm: float
    length_mm: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One view. tissue_NM: Tissue codes. gain_NM: echo amplitude of tissue, 0 in blood. Both at end-diastole.

    outline_TSL2: the cavity's border now, heart frame: two sides S, L points along each, from the apex to the base
        (long-axis views) or around the ring (PSAX).
    """

    view: str
    cycle: Cycle
    extent: Extent
    tissue_NM: npt.NDArray[np.uint8]
    gain_NM: npt.NDArray[np.float32]
    tables: MotionTables
    outline_TSL2: Array
    threads: list[Thread] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)


def outline_levels(patient: Patient) -> Array:
    """(L,) depths from the apex to the base at which a long-axis outline has its points."""
    return np.linspace(0, 1, OUTLINE_POINTS) * patient.lv_length_mm


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma_mm: float) -> Array:
    """Unit-variance noise with structures of about this size on the painted plane."""
    # In Fourier space the cost does not grow with the size.
    white = scipy.fft.rfft2(rng.standard_normal(shape))
    spectrum = scipy.ndimage.fourier_gaussian(white, sigma_mm / PAINT_STEP_MM, n=shape[1])
    noise = scipy.fft.irfft2(spectrum, shape)
    return noise / noise.std()


def paint_borders(border_ZK: Array, level_Z: Array, across_M: Array, along_N: Array) -> npt.NDArray[np.intp]:
    """(N, M) number of borders to the left of each painted pixel: 0 before the first, K beyond the last."""
    border_NK = np.stack([np.interp(along_N, level_Z, column) for column in border_ZK.T], 1)
    return (across_M[None, :, None] >= border_NK[:, None, :]).sum(-1)


def distance_outside(inside_NM: npt.NDArray[np.bool_]) -> Array:
    """Distance (mm) of every pixel outside a region to it; 0 within."""
    return scipy.ndimage.distance_transform_edt(~inside_NM) * PAINT_STEP_MM


_FLAT_GAIN = {
    Tissue.RV_WALL: 0.8,
    Tissue.ATRIAL_WALL: 0.9,
    Tissue.FIBROUS: 1.3,
    Tissue.PAPILLARY: 1.0,
}


def paint_gain(
    patient: Patient,
    view: str,
    tissue_NM: npt.NDArray[np.uint8],
    across_M: Array,
    along_N: Array,
    *,
    probe_mm: tuple[float, float],
) -> npt.NDArray[np.float32]:
    """(N, M) amplitude relative to myocardium, 0 in blood. probe_mm: where the probe usually is, in the heart frame.

    Myocardium is brighter at the septum; borders across the beam are brighter than those along it; the pericardium is a
    bright line; outside it, patches fade into the dark.
    """
    p = patient
    rng = generator(p.seed, "texture", p.number, VIEWS.index(view))
    septal = np.clip(0.5 - across_M / 40, 0, 1)[None, :]
    gain = np.ones(tissue_NM.shape)
    gain = np.where(tissue_NM == Tissue.MYOCARDIUM, septal * p.septum_gain + (1 - septal) * p.lateral_gain, gain)
    for kind, level in _FLAT_GAIN.items():
        gain[tissue_NM == kind] = level
    fine, coarse = smooth_noise(rng, tissue_NM.shape, 2.0), smooth_noise(rng, tissue_NM.shape, 8.0)
    gain *= np.exp(p.patchiness * (0.7 * fine + 0.9 * coarse))
    blood = np.isin(tissue_NM, BLOOD)
    gain *= _border_gain(blood, across_M, along_N, probe_mm)
    gain = np.where(tissue_NM == Tissue.OUTSIDE, _outside(p, rng, tissue_NM, along_N), gain)
    gain[blood] = 0
    return gain.astype(np.float32)


def _border_gain(
    blood_NM: npt.NDArray[np.bool_], across_M: Array, along_N: Array, probe_mm: tuple[float, float]
) -> Array:
    """Specular part: borders of blood and tissue reflect most where the beam meets them square on."""
    soft = scipy.ndimage.gaussian_filter(blood_NM.astype(float), 2.5 / PAINT_STEP_MM)
    slope_along, slope_across = np.gradient(soft)
    steep = np.hypot(slope_along, slope_across)
    beam_across, beam_along = across_M[None, :] - probe_mm[0], along_N[:, None] - probe_mm[1]
    distance = np.hypot(beam_across, beam_along)
    square = np.abs(slope_across * beam_across + slope_along * beam_along) / (np.maximum(steep, 1e-9) * distance)
    near = np.clip(steep / 0.06, 0, 1)
    return 1 + near * (_ALONG_BEAM + 1.3 * square**2 - 0.75)


def _outside(p: Patient, rng: np.random.Generator, tissue_NM: npt.NDArray[np.uint8], along_N: Array) -> Array:
    distance = distance_outside(tissue_NM != Tissue.OUTSIDE)
    coarse = smooth_noise(rng, tissue_NM.shape, 10.0)
    lines = np.exp(0.8 * smooth_noise(rng, tissue_NM.shape, 4.0))
    sac = p.pericardium_gain * np.exp(-(((distance - 1.5) / 1.8) ** 2)) * np.clip(np.exp(coarse), 0.15, 1.5)
    # Deeper, behind the base, lies more that reflects.
    depth = np.clip(along_N / p.lv_length_mm, 0, 1.3)[:, None]
    haze = (0.08 + 0.32 * depth) * np.exp(1.1 * coarse) * lines * np.exp(-distance / 16)
    return haze + sac * (0.25 + 0.75 * np.clip(depth, 0, 1)) + 0.03


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
