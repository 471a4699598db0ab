"""Outlines drawn as lines of pixels: filled, whether they are closed or not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import skimage.draw
from scipy.ndimage import binary_erosion, binary_fill_holes

Mask = npt.NDArray[np.bool_]

# Of a region, not a line, at least this share is left when two pixels are taken off all round.
_SOLID = 0.25
# A closed line's inside is more than this part of the line.
_CLOSED = 0.3


def filled(line_HW: Mask) -> Mask:
    """The region inside a line of pixels, the line included; a region stays as it is.

    A line with gaps is closed along its points, sorted by their angle around their middle: chambers of the heart are
    seen whole from there.
    """
    inside_HW = binary_fill_holes(line_HW)
    line = int(line_HW.sum())
    if inside_HW.sum() - line > _CLOSED * line or binary_erosion(line_HW, iterations=2).sum() >= _SOLID * line:
        return inside_HW
    rows_P, columns_P = np.nonzero(line_HW)
    if len(rows_P) < 3:
        return line_HW
    order = np.argsort(np.arctan2(rows_P - rows_P.mean(), columns_P - columns_P.mean()))
    return line_HW | skimage.draw.polygon2mask(line_HW.shape, np.stack([rows_P, columns_P], 1)[order])


def filled_volume(classes_THW: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Every class of every frame, filled; where two meet, the one of the higher number stays."""
    done_THW = np.zeros_like(classes_THW)
    for frame, drawn_HW in zip(done_THW, classes_THW):
        for value in np.unique(drawn_HW[drawn_HW > 0]):
            frame[filled(drawn_HW == value)] = value
    return done_THW
