"""Left-ventricular volume from masks by the method of discs (Lang et al., JASE 2015, figure 3), as a reader would."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from echofm.clip import LEFT_ATRIUM, LEFT_VENTRICLE

Mask = npt.NDArray[np.uint8]


def discs(mask_HW: Mask, spacing_mm: float, *, count: int = 20) -> tuple[npt.NDArray[np.float64], float]:
    """Diameters (mm) of `count` discs from base to apex, and the long axis' length (mm).

    The axis runs from the middle of the mitral annulus (where class 1 meets class 3) to the farthest point of class 1.
    """
    ventricle = mask_HW == LEFT_VENTRICLE
    annulus = ventricle & scipy.ndimage.binary_dilation(mask_HW == LEFT_ATRIUM, iterations=2)
    assert annulus.any(), "an apical view shows where the ventricle meets the atrium"
    points = np.argwhere(ventricle).astype(float)
    base = np.argwhere(annulus).mean(0)
    apex = points[np.linalg.norm(points - base, axis=1).argmax()]
    axis = (apex - base) / np.linalg.norm(apex - base)
    along = (points - base) @ axis
    low, high = along.min() - 0.5, along.max() + 0.5
    length_px = high - low
    # Each pixel counts in the discs that it overlaps, by their share of its extent.
    edges = np.linspace(low, high, count + 1)
    share = np.minimum(edges[1:, None], along + 0.5) - np.maximum(edges[:-1, None], along - 0.5)
    area_px = np.clip(share, 0, None).sum(1)
    return area_px / (length_px / count) * spacing_mm, float(length_px * spacing_mm)


def single_plane_volume_ml(mask_HW: Mask, spacing_mm: float, *, count: int = 20) -> float:
    """Volume from one apical view, its discs taken as circles."""
    diameter_mm, length_mm = discs(mask_HW, spacing_mm, count=count)
    return float(np.pi / 4 * (diameter_mm**2).sum() * length_mm / count / 1000)


def biplane_volume_ml(a4c_HW: Mask, a2c_HW: Mask, spacings_mm: tuple[float, float], *, count: int = 20) -> float:
    """Volume from an A4C and an A2C mask, their discs taken as ellipses; the longer axis counts."""
    planes = [discs(mask, spacing, count=count) for mask, spacing in zip((a4c_HW, a2c_HW), spacings_mm, strict=True)]
    length_mm = max(length for _, length in planes)
    return float(np.pi / 4 * (planes[0][0] * planes[1][0]).sum() * length_mm / count / 1000)
