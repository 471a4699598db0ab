"""A clip's fingerprint: what survives re-encoding, brightness, cropping and reversal, and is no other clip's.

It is taken twice: of the sector's bounding box, so that margins and size do not matter, and of the whole picture, as
the sector may be found a little differently in a copy. Pixels outside the sector never count.
- shape_2GG: local contrast of the time-mean and time-deviation images, which do not know the order of the frames.
  Anatomy: good for finding and aligning, but two hearts may look alike.
- frames_KGG: the finest detail of K frames spread evenly and symmetrically over the clip, so that a reversed copy has
  the same ones. Speckle: two recordings never share it.
- motion_M: how much each moment differs from the next, at one length for all; a crop hardly changes it.

Shapes: G = GRID rows and columns, K = FRAMES, M = CURVE_POINTS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from echofm.clip import Clip

GRID = 64
FRAMES = 4
CURVE_POINTS = 48
SCALE = 32
_COARSE_GRID = 16
_BLOCK_BYTES = 1 << 24
# Bands of detail in grid cells: (finer than, coarser than) are left out.
_SHAPE_BAND = (0.7, 4.0)
_SPECKLE_BAND = (0.4, 1.4)

Grids = npt.NDArray[np.floating[Any]]
Details = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """shape_2GG, frames_KGG: int8, local contrast times `SCALE`, 0 outside the sector; motion_M: mean 0, norm 1."""

    shape_2GG: Details
    frames_KGG: Details
    inside_GG: npt.NDArray[np.bool_]
    motion_M: npt.NDArray[np.float32]


def fingerprint(clip: Clip, *, whole_picture: bool = False) -> Fingerprint:
    """The fingerprint of a clip as read, 29 kB: of its sector's bounding box, or of the whole picture."""
    rows, columns = (np.flatnonzero(clip.sector_HW.any(axis=axis)) for axis in (1, 0))
    box = np.s_[:, :] if whole_picture else np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    frames_TCHW, sector_HW = clip.frames_TCHW[(..., *box)], clip.sector_HW[box]
    share_GG = _to_grid(sector_HW.astype(np.float32), GRID)
    inside_GG = share_GG > 0.5

    def details(image_HW: Grids, band: tuple[float, float]) -> Details:
        image_GG = _to_grid(image_HW * sector_HW, GRID) / np.maximum(share_GG, 1e-3)
        return np.clip(SCALE * _local_contrast(image_GG, inside_GG, band), -127, 127).astype(np.int8)

    picked = np.rint((np.arange(FRAMES) + 0.5) / FRAMES * (len(frames_TCHW) - 1)).astype(int)
    return Fingerprint(
        shape_2GG=np.stack([details(image, _SHAPE_BAND) for image in _mean_and_std(frames_TCHW)]),
        frames_KGG=np.stack([details(_grey(frames_TCHW[k]), _SPECKLE_BAND) for k in picked]),
        inside_GG=inside_GG,
        motion_M=_motion(frames_TCHW),
    )


def _grey(frame_CHW: npt.NDArray[np.uint8]) -> Grids:
    return frame_CHW.astype(np.float32).mean(axis=0)


def _motion(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Differences of neighbouring frames, each as a coarse picture of one brightness; 0 for a still."""
    # Coarse, as a codec's key frames flicker in the fine detail.
    coarse = np.stack([_to_grid(_grey(frame), _COARSE_GRID) for frame in frames_TCHW])
    coarse /= np.maximum(coarse.mean(axis=(1, 2), keepdims=True), 1.0)
    change = np.abs(np.diff(coarse, axis=0)).mean(axis=(1, 2))
    if len(change) < 2:
        return np.zeros(CURVE_POINTS, np.float32)
    curve = np.interp(np.linspace(0, len(change) - 1, CURVE_POINTS), np.arange(len(change)), change)
    curve -= curve.mean()
    return (curve / max(float(np.linalg.norm(curve)), 1e-6)).astype(np.float32)


def _mean_and_std(frames_TCHW: npt.NDArray[np.uint8]) -> tuple[Grids, Grids]:
    """Mean and standard deviation over time of the grey level, a block of frames at a time."""
    per_block = max(1, _BLOCK_BYTES // (4 * frames_TCHW[0].size))
    total, squares = (np.zeros(frames_TCHW.shape[2:], np.float64) for _ in range(2))
    for start in range(0, len(frames_TCHW), per_block):
        grey_THW = frames_TCHW[start : start + per_block].astype(np.float32).mean(axis=1)
        total += grey_THW.sum(axis=0)
        squares += np.square(grey_THW).sum(axis=0)
    mean = total / len(frames_TCHW)
    variance = np.maximum(squares / len(frames_TCHW) - mean**2, 0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _to_grid(image_HW: Grids, cells: int) -> Grids:
    # Pillow's bilinear filter widens when it shrinks, so it does not alias.
    return np.asarray(Image.fromarray(image_HW).resize((cells, cells), Image.Resampling.BILINEAR))


def _local_contrast(image_GG: Grids, inside_GG: npt.NDArray[np.bool_], band: tuple[float, float]) -> Grids:
    """(band-passed image) / (its local size), blurs taken inside the sector alone, so that its edge is no detail."""
    weight = inside_GG.astype(np.float32)

    def blur(values: Grids, cells: float) -> Grids:
        return gaussian_filter(values * weight, cells) / np.maximum(gaussian_filter(weight, cells), 1e-3)

    detail = blur(image_GG, band[0]) - blur(image_GG, band[1])
    size = np.sqrt(blur(np.square(detail), max(band[1], 3.0)))
    # Half a grey level: where nothing is drawn, noise must not be blown up.
    return detail / (size + 0.5) * weight
