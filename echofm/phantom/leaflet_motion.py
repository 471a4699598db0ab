"""Displacement where a pixel shows a leaflet, which swings by itself through blood that the tissue's map carries along.

Shapes: T frames, P points of all threads, Q pixels of the image, A samples, L beams of the polar grid.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from echofm.phantom.acquisition import Acquisition
from echofm.phantom.probe import Sector, axial_blur_mm, lateral_blur_rad
from echofm.phantom.render import STEPS_PER_PIXEL, PixelTruth, Scan

Array = npt.NDArray[np.float64]

REACH = 3.4
"""How far a leaflet's echo lies over blood, in standard deviations of the point spread.

Blood is some 50 dB below a leaflet (-32 dB against +18 dB of myocardium), and exp(-REACH^2 / 2) is -50 dB.
"""


def with_leaflets(scan: Scan, pixels: PixelTruth) -> PixelTruth:
    """The truth with the motion of the nearest leaflet point on pixels of blood that show its echo."""
    threads, sector = scan.scene.threads, scan.sector
    if not threads:
        return pixels
    points_TP2 = scan.pose.to_image(np.concatenate([thread.points_TP2 for thread in threads], 1))
    scale = _Widths(sector, scan.acquisition)
    pixels_Q2 = scale(sector.pixel_points().reshape(-1, 2))
    is_blood_TQ = (scan.blood_THW & sector.inside()).reshape(len(points_TP2), -1)
    field = pixels.displacement_T2HW.copy()
    for frame, moved_P2 in enumerate(np.diff(points_TP2, axis=0) / sector.spacing_mm):
        near_P2, blood = scale(points_TP2[frame]), np.flatnonzero(is_blood_TQ[frame])
        # Most of the blood is nowhere near a valve.
        low, high = near_P2.min(0) - REACH, near_P2.max(0) + REACH
        blood = blood[((pixels_Q2[blood] > low) & (pixels_Q2[blood] < high)).all(1)]
        distance, nearest = cKDTree(near_P2).query(pixels_Q2[blood], distance_upper_bound=REACH)
        shows = np.isfinite(distance)
        steps = (moved_P2[nearest[shows]] * STEPS_PER_PIXEL).round() / STEPS_PER_PIXEL
        field[frame].reshape(2, -1)[:, blood[shows]] = steps.T
    return replace(pixels, displacement_T2HW=field)


class _Widths:
    """Image points (..., 2) in mm to (along, across) the beam, in standard deviations of the point spread there."""

    def __init__(self, sector: Sector, acquisition: Acquisition) -> None:
        self._range_A = sector.range_mm
        along_A = axial_blur_mm(acquisition, sector)
        between = np.diff(self._range_A) / (0.5 * (along_A[1:] + along_A[:-1]))
        self._widths_A = np.concatenate([[0.0], np.cumsum(between)])
        self._across_A = lateral_blur_rad(acquisition, sector)

    def __call__(self, points: Array) -> Array:
        distance, angle = np.hypot(points[..., 0], points[..., 1]), np.arctan2(points[..., 0], points[..., 1])
        along = np.interp(distance, self._range_A, self._widths_A)
        return np.stack([along, angle / np.interp(distance, self._range_A, self._across_A)], -1)
