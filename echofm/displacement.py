"""Displacement of tissue between frames that do not follow one another: the steps in between, chained."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float16]


def between(displacement_px_T2HW: Field, indices_L: npt.NDArray[np.int64]) -> Field:
    """(L, 2, H, W) pixels (right, down) from each chosen frame to the next chosen one.

    u(a -> c)(x) = u(a -> b)(x) + u(b -> c)(x + u(a -> b)(x)), read bilinearly. 0 where a frame is repeated; NaN in the
    last, which has no next, and where a window begins the clip anew.

    displacement_px_T2HW: from each frame to the next, NaN in the last.
    """
    moved_L2HW = np.full((len(indices_L), *displacement_px_T2HW.shape[1:]), np.nan, displacement_px_T2HW.dtype)
    for moved_2HW, (first, last) in zip(moved_L2HW, itertools.pairwise(indices_L.tolist())):
        if first <= last:
            moved_2HW[:] = _chained(displacement_px_T2HW[first:last])
    return moved_L2HW


def _chained(steps_T2HW: Field) -> npt.NDArray[np.float32]:
    from scipy.ndimage import map_coordinates

    total_2HW = np.zeros(steps_T2HW.shape[1:], np.float32)
    rows, columns = np.indices(total_2HW.shape[1:])
    for number, step_2HW in enumerate(steps_T2HW.astype(np.float32)):
        if number == 0:
            total_2HW += step_2HW
            continue
        reached = np.stack([rows + total_2HW[1], columns + total_2HW[0]])
        total_2HW += np.stack([map_coordinates(part_HW, reached, order=1, mode="nearest") for part_HW in step_2HW])
    return total_2HW
