"""Echo amplitudes of a painted plane: what is bright, what is dark, and this patient's own texture of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from echofm.phantom.acquisition import VIEWS
from echofm.phantom.anatomy import Patient
from echofm.phantom.scene import BLOOD, PAINT_STEP_MM, Tissue, distance_outside, smooth_noise
from echofm.phantom.seeds import generator

Array = npt.NDArray[np.float64]

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
