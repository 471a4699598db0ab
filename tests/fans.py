"""Fans of any geometry, for hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from echofm.fan import Fan


@st.composite
def fans(draw: st.DrawFn, *, height: int = 100, width: int = 120) -> Fan:
    """A fan whose image lies at least partly on a screen of height x width."""
    half, lean = draw(st.floats(0.2, 0.9)), draw(st.floats(-0.25, 0.25))
    far = draw(st.floats(0.6, 1.1)) * height
    return Fan(
        apex_row=draw(st.floats(-0.4, 0.1)) * height,
        apex_column=draw(st.floats(0.4, 0.6)) * width,
        first_rad=lean - half,
        last_rad=lean + half,
        near=draw(st.floats(0.0, 0.4)) * far,
        far=far,
        top=-0.5,
        left=draw(st.floats(-0.5, 0.2 * width)),
        bottom=draw(st.floats(0.8 * height, height - 0.5)),
        right=draw(st.floats(0.8 * width, width - 0.5)),
    )


def polar(fan: Fan, shape: tuple[int, int], slack: float) -> np.ndarray:
    """The fan's mask by angles and radii, slow and plain, with `slack` pixels more (or less) on every side."""
    row, column = np.mgrid[: shape[0], : shape[1]].astype(float)
    down, across = row - fan.apex_row, column - fan.apex_column
    radius = np.hypot(down, across)
    middle, half = (fan.first_rad + fan.last_rad) / 2, (fan.last_rad - fan.first_rad) / 2
    angle = np.abs((np.arctan2(across, down) - middle + np.pi) % (2 * np.pi) - np.pi)
    inside = (radius * np.sin(np.clip(angle - half, -np.pi / 2, np.pi / 2)) <= slack) & (angle < np.pi / 2 + half)
    inside &= (radius >= fan.near - slack) & (radius <= fan.far + slack)
    inside &= (row >= fan.top - slack) & (row <= fan.bottom + slack)
    return inside & (column >= fan.left - slack) & (column <= fan.right + slack)


def is_that_of(mask: np.ndarray, fan: Fan) -> bool:
    """Whether a mask is the fan's, but for pixels whose centres lie on its edges."""
    least, most = polar(fan, mask.shape, -0.01), polar(fan, mask.shape, 0.01)
    return not (least & ~mask).any() and not (mask & ~most).any()
