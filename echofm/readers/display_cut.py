"""Where a display cuts a fan straight: before a fan is sought, by all that the screen shows, and within a fan found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.fan import Fan
from echofm.readers.evidence import Echo

# Part of the rows that must end on one line, and the most that may go beyond it; of the columns more, as the lowest
# point of an arc looks flat too.
_CUT, _CUT_BELOW, _BEYOND = 0.2, 0.6, 0.05
_SHOWS, _FULL = 0.5, 0.75
# Within a fan: what an empty cell costs, the most that one row may object, the cells that are looked at on either side,
# and the part of the rows, of at least so many, that must show echo to one side and none to the other.
_EMPTY, _MOST_OBJECTION, _BAND, _SEEN, _ENOUGH_ROWS = 0.4, 3.0, 3, 0.5, 8


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
    # Of a line of words below the fan's arc the columns end on one row as well, but there is a gap above it.
    deep = width // 4
    sums = np.pad(np.cumsum(rows, axis=1, dtype=np.int64), ((0, 0), (1, 0)))
    row = np.arange(len(rows))
    is_full = sums[row, ends] - sums[row, np.maximum(0, ends - deep)] >= _FULL * deep
    at = np.bincount(ends[is_full], minlength=width + 1)
    beyond = len(ends) - np.cumsum(np.bincount(ends, minlength=width + 1))
    on = at + np.append(0, at[:-1])  # one cell to the inside: speckle ends there as well
    cut = np.flatnonzero((on >= least * len(ends)) & (beyond <= _BEYOND * len(ends)))
    return int(cut[at[cut].argmax()]) if len(cut) else width


def cut_by_display(echo_HW: Echo, fan: Fan) -> Fan:
    """The fan as far as the display shows it, where most of its rows end on one column (or columns on one row)."""
    within_HW = np.where(fan.mask(echo_HW.shape), echo_HW, np.nan)
    width = echo_HW.shape[1]
    right, below = _cut_within(within_HW), _cut_within(within_HW.T)
    left = _cut_within(within_HW[:, ::-1])
    return replace(
        fan,
        left=fan.left if left is None else max(fan.left, width - left - 0.5),
        right=fan.right if right is None else min(fan.right, right - 0.5),
        bottom=fan.bottom if below is None else min(fan.bottom, below - 0.5),
    )


def _cut_within(within: npt.NDArray[np.float32]) -> int | None:
    """The column that most rows of a fan end on, though the fan goes on; None where there is none.

    Each row says where it would end; how much it may object is capped, as words may lie beyond the cut.
    """
    known = ~np.isnan(within)
    echo = np.nan_to_num(within)
    sums = np.pad(np.cumsum(np.where(known, echo - _EMPTY, 0), axis=1), ((0, 0), (1, 0)))
    goes_on = np.pad(known, ((0, 0), (0, _BAND)))[:, _BAND:]
    shows = np.pad(echo >= _SHOWS, ((0, 0), (_BAND, _BAND)))
    # Any echo in the last cells before a column, and in the first from it on.
    before = np.logical_or.reduce([shows[:, _BAND - one : -_BAND - one] for one in range(1, _BAND + 1)])
    after = np.logical_or.reduce([shows[:, _BAND + one : shows.shape[1] - _BAND + one] for one in range(_BAND)])
    rows = goes_on.sum(axis=0)
    ends = (goes_on & before & ~after).sum(axis=0)
    objections = np.minimum(sums.max(axis=1, keepdims=True) - sums, _MOST_OBJECTION).sum(axis=0)[:-1]
    may = (ends >= _SEEN * rows) & (rows >= _ENOUGH_ROWS) & (np.arange(within.shape[1]) > within.shape[1] // 2)
    return int(np.flatnonzero(may)[objections[may].argmin()]) if may.any() else None
