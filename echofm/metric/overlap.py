"""Overlap of maps of structures: Dice and the 95 % Hausdorff distance of one frame, as MONAI defines them.

F frames, H rows, W columns of pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt

from echofm.clip import NOT_ANNOTATED

Mask = npt.NDArray[np.bool_]


def dice(true_HW: Mask, predicted_HW: Mask) -> float:
    """2 |A and B| / (|A| + |B|), in [0, 1]; NaN where the structure is not in the truth."""
    if not true_HW.any():
        return float("nan")
    return float(2 * (true_HW & predicted_HW).sum() / (true_HW.sum() + predicted_HW.sum()))


def hausdorff_95(true_HW: Mask, predicted_HW: Mask, *, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """The larger of both directions' 95th percentile of the distances from one outline to the other.

    Outlines are the pixels that an erosion by a cross takes away, frame border included. spacing: size of a pixel
    (row, column), in the unit of the result. NaN where the structure is not in the truth; where nothing was predicted,
    the frame's diagonal, so that silence is not rewarded.
    """
    if not true_HW.any():
        return float("nan")
    if not predicted_HW.any():
        return float(np.hypot(*(np.array(true_HW.shape) * spacing)))
    true_edge, predicted_edge = (mask & ~binary_erosion(mask) for mask in (true_HW, predicted_HW))
    to_predicted = distance_transform_edt(~predicted_edge, sampling=spacing)[true_edge]
    to_true = distance_transform_edt(~true_edge, sampling=spacing)[predicted_edge]
    return float(max(np.percentile(to_predicted, 95), np.percentile(to_true, 95)))


def mean_dice(mask_FHW: npt.NDArray[np.uint8], predicted_FHW: npt.NDArray[np.uint8], *, classes: int) -> float:
    """Mean over structures and the frames that show them; background and unannotated pixels do not count."""
    found = []
    known = mask_FHW != NOT_ANNOTATED
    for number in range(1, classes):
        true, predicted = mask_FHW == number, (predicted_FHW == number) & known
        shown = true.any((1, 2))
        overlap = (true & predicted).sum((1, 2))[shown]
        found += (2 * overlap / (true.sum((1, 2)) + predicted.sum((1, 2)))[shown]).tolist()
    return float(np.mean(found)) if found else 0.0
