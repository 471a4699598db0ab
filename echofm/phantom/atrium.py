"""The outline of an atrium, shared by the long-axis views."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ATRIAL_WALL_MM = 3.0
_WIDEST_AT = 0.42


def atrium_width(level_mm: Array, start_mm: float, annulus_mm: float, widest_mm: float, height_mm: float) -> Array:
    """Width at levels beyond the annulus: widening to 42 % of the height, then a rounded roof. 0 beyond it."""
    q = np.clip((level_mm - start_mm) / height_mm, 0, 1)
    opening = annulus_mm + (widest_mm - annulus_mm) * np.sin(np.pi / 2 * np.clip(q / _WIDEST_AT, 0, 1))
    roof = widest_mm * np.sqrt(np.clip(1 - ((q - _WIDEST_AT) / (1 - _WIDEST_AT)) ** 2, 0, 1))
    return np.where(q < _WIDEST_AT, opening, roof)
