"""How the phantom's images compare with real ones, measured: image and speckle statistics.

Statistics of real clips are printed; frames are shown of the pydicom-data cine alone (MIT licence).
Shapes: T frames, H rows, W columns, A samples along a beam, L beams.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.stats
import torch

from echofm.phantom.acquisition import Acquisition
from echofm.phantom.anatomy import generator
from echofm.phantom.probe import PointSpread, make_sector

Array = npt.NDArray[np.float64]

PERCENTILES = (10, 25, 50, 75, 90, 99)
BANDS = ((0.2, 0.45), (0.45, 0.7), (0.7, 0.95))
"""Depths over the sector's depth: near, middle, far."""
LAGS_S = (0.02, 0.1, 0.3)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStatistics:
    """Of one clip. grey: percentiles in the sector. axial, lateral: half-widths (pixels) of the texture's
    autocorrelation at half height, by depth band. similarity: correlation of frames LAGS_S apart."""

    grey: Array
    axial_px: Array
    lateral_px: Array
    similarity: Array


def image_statistics(
    frames_THW: npt.NDArray[np.uint8], sector_HW: npt.NDArray[np.bool_], frame_rate_hz: float
) -> ImageStatistics:
    """Statistics that need no truth, so that real and phantom clips are measured alike."""
    grey = np.percentile(frames_THW[:, sector_HW], PERCENTILES)
    rows = np.flatnonzero(sector_HW.any(1))
    widths = []
    for low, high in BANDS:
        band = np.zeros_like(sector_HW)
        begin, end = (round(rows[0] + share * (rows[-1] - rows[0])) for share in (low, high))
        columns = np.flatnonzero(sector_HW[(begin + end) // 2])
        middle, half = (columns[0] + columns[-1]) // 2, (columns[-1] - columns[0]) // 4
        band[begin:end, middle - half : middle + half] = True
        widths.append(_texture_widths(frames_THW[:: max(1, len(frames_THW) // 8)], band & sector_HW))
    axial, lateral = np.array(widths).T
    return ImageStatistics(
        grey=grey, axial_px=axial, lateral_px=lateral, similarity=_similarity(frames_THW[:, sector_HW], frame_rate_hz)
    )


def _texture_widths(frames_THW: npt.NDArray[np.uint8], region_HW: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Half-widths (pixels) along rows and columns of the autocorrelation of grey minus its local mean."""
    rows, columns = np.nonzero(region_HW)
    box = (slice(None), slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    texture = frames_THW[box].astype(float)
    texture -= scipy.ndimage.gaussian_filter(texture, (0, 4, 4))
    widths = []
    for axis in (1, 2):
        lags = range(min(6, texture.shape[axis] - 1))
        curve = []
        for lag in lags:
            first = np.take(texture, range(texture.shape[axis] - lag), axis)
            second = np.take(texture, range(lag, texture.shape[axis]), axis)
            curve.append((first * second).mean())
        widths.append(_half_width(np.array(curve)))
    return widths[0], widths[1]


def _half_width(curve: Array) -> float:
    """Lag at which a curve falls to half of its first value, linear between lags."""
    curve = curve / curve[0]
    below = np.flatnonzero(curve < 0.5)
    if len(below) == 0:
        return float(len(curve) - 1)
    lag = int(below[0])
    return lag - 1 + float((curve[lag - 1] - 0.5) / (curve[lag - 1] - curve[lag]))


def _similarity(pixels_TP: npt.NDArray[np.uint8], frame_rate_hz: float) -> Array:
    """Mean correlation between frames; the clip's mean image removed, so that only what changes counts."""
    moving = pixels_TP.astype(np.float32)
    moving -= moving.mean(0)
    moving /= np.linalg.norm(moving, axis=1, keepdims=True) + 1e-6
    lags = [max(1, round(lag * frame_rate_hz)) for lag in LAGS_S]
    return np.array([(moving[:-lag] * moving[lag:]).sum(1).mean() for lag in lags])


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeckleStatistics:
    """Of even tissue before compression. rayleigh_ks: Kolmogorov-Smirnov distance of the envelope from a Rayleigh law.
    axial_mm, lateral_mm: full widths at half height of the intensity's autocorrelation, by depth band."""

    rayleigh_ks: float
    axial_mm: Array
    lateral_mm: Array


def speckle_statistics(
    acquisition: Acquisition, *, size: int = 224, frames: int = 16, seed: int = 0
) -> SpeckleStatistics:
    """Send even scatterers through the acquisition's point spread and measure."""
    sector = make_sector(acquisition, size)
    white = generator(seed, "noise", 0).standard_normal((sector.samples, sector.beams, 2 * frames), np.float32)
    blurred = PointSpread(acquisition, sector, "cpu")(torch.from_numpy(white)).view(sector.samples, sector.beams, 2, -1)
    envelope_ALT = torch.linalg.vector_norm(blurred, dim=2).numpy().astype(np.float64)
    axial, lateral = [], []
    apart = np.array([sector.range_mm[1] - sector.range_mm[0], sector.beam_rad[1] - sector.beam_rad[0]])
    for low, high in BANDS:
        part = slice(int(low * sector.samples), int(high * sector.samples))
        intensity = envelope_ALT[part] ** 2
        intensity -= intensity.mean()
        curves = [_autocorrelation(intensity, axis) for axis in (0, 1)]
        axial.append(2 * _half_width(curves[0]) * apart[0])
        lateral.append(2 * _half_width(curves[1]) * apart[1] * sector.range_mm[part].mean())
    # Samples far enough apart to be independent, each depth by its own scale.
    sparse = envelope_ALT[8:-8:8, 4:-4:8]
    scaled = sparse / np.sqrt((sparse**2).mean((1, 2), keepdims=True) / 2)
    distance = scipy.stats.kstest(scaled.ravel(), "rayleigh").statistic
    return SpeckleStatistics(rayleigh_ks=float(distance), axial_mm=np.array(axial), lateral_mm=np.array(lateral))


def _autocorrelation(signal: Array, axis: int) -> Array:
    length = signal.shape[axis]
    curve = []
    for lag in range(24):
        first, second = np.take(signal, range(length - lag), axis), np.take(signal, range(lag, length), axis)
        curve.append((first * second).mean())
    return np.array(curve)
