"""Where a display cuts a fan straight: the window beyond which a screen shows no echo."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.evidence import Echo

# Part of the rows that must end on one line, and the most that may go beyond it; of the columns more, as the lowest
# point of an arc looks flat too.
_CUT, _CUT_BELOW, _BEYOND = 0.2, 0.4, 0.05
_SHOWS = 0.5


def display_window(echo_HW: Echo) -> tuple[slice, slice]:
    """Rows and columns within which the display shows echo: the whole map but for straight cuts left, right, below."""
    shows_HW = echo_HW >= _SHOWS
    bottom = _end(shows_HW.T, _CUT_BELOW)
    right = _end(shows_HW, _CUT)
    left = shows_HW.shape[1] - _end(shows_HW[:, ::-1], _CUT)
    return slice(0, bottom), slice(left, right)


def _end(shows: npt.NDArray[np.bool_], least: float) -> int:
    """The column at which the display cuts off what the rows show; the number of columns where it does not."""
    width = shows.shape[1]
    rows = shows[shows.any(axis=1)]
    if not len(rows):
        return width
    ends = width - rows[:, ::-1].argmax(axis=1)
    at = np.bincount(ends, minlength=width + 1)
    beyond = len(ends) - np.cumsum(at)
    on = at + np.append(0, at[:-1])  # one cell to the inside: speckle ends there as well
    cut = np.flatnonzero((on >= least * len(ends)) & (beyond <= _BEYOND * len(ends)))
    return int(cut[at[cut].argmax()]) if len(cut) else width
