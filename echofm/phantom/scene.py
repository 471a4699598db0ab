"""Scene: one view of one heart as the imaging needs it: tissue painted at end-diastole, its motion, thin threads.

Shapes: T frames, N rows (along) and M columns (across) of the painted plane, P points of a thread.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

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
