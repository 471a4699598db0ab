"""Differences of phases: a cycle's end is its beginning."""

from __future__ import annotations

from typing import Any

import numpy as np


def circular_difference(first: Any, second: Any) -> Any:
    """First minus second in cycles, the shorter way round, in [-0.5, 0.5); of numbers and arrays, or of tensors."""
    if not hasattr(first, "detach"):
        first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return (first - second + 0.5) % 1 - 0.5


def circular_distance(first: Any, second: Any) -> Any:
    """Distance of two phases in cycles, 0 to 0.5; of numbers and arrays, or of tensors."""
    return abs(circular_difference(first, second))
