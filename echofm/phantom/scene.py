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
_ALONG_BEAM = 0.55


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
