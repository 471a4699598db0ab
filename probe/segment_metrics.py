"""Dice and the 95 % Hausdorff distance of one structure on one frame, defined as MONAI defines them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = npt.NDArray[np.bool_]


def dice(true_HW: Mask, said_HW: Mask) -> float:
    """2 |A and B| / (|A| + |B|), in [0, 1]; NaN where the structure is not in the truth."""
    if not true_HW.any():
        return float("nan")
    return float(2 * (true_HW & said_HW).sum() / (true_HW.sum() + said_HW.sum()))


def hausdorff_95(true_HW: Mask, said_HW: Mask, *, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """The larger of both directions' 95th percentile of the distances from one outline to the other.

    Outlines are the pixels that an erosion by a cross takes away, frame border included. spacing: size of a pixel
    (row, column), in the unit of the result. NaN where the structure is not in the truth; where nothing was predicted,
    the frame's diagonal, so that silence is not rewarded.
    """
    if not true_HW.any():
        return float("nan")
    if not said_HW.any():
        return float(np.hypot(*(np.array(true_HW.shape) * spacing)))
    true_edge, said_edge = (mask & ~binary_erosion(mask) for mask in (true_HW, said_HW))
    to_said = distance_transform_edt(~said_edge, sampling=spacing)[true_edge]
    to_true = distance_transform_edt(~true_edge, sampling=spacing)[said_edge]
    return float(max(np.percentile(to_said, 95), np.percentile(to_true, 95)))
