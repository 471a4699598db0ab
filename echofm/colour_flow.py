"""How a scanner shows velocities in colour: aliasing, wall filter and colour map. Positive is towards the probe."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

V = TypeVar("V")

WALL_FILTER = 0.12
"""Share of the Nyquist velocity below which nothing is shown."""


def aliased(velocity: V, nyquist: V | float) -> V:
    """Velocities as they are measured, in [-nyquist, nyquist): what is faster turns up on the other side."""
    return (velocity + nyquist) % (2 * nyquist) - nyquist  # type: ignore[operator,return-value]


def colour_map(share: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """(..., 3) of velocities over the Nyquist velocity: towards the probe red to yellow, away blue to cyan."""
    strength = np.abs(share)
    first = 110 + 145 * np.clip(strength / 0.5, 0, 1)
    second = 255 * np.clip((strength - 0.35) / 0.65, 0, 1) ** 1.2
    zero = np.zeros_like(strength)
    towards = np.stack([first, second, zero], -1)
    away = np.stack([zero, second, first], -1)
    return np.where(share[..., None] > 0, towards, away).astype(np.uint8)
