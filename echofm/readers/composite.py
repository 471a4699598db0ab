"""Composites: several hearts on one screen that no header declares, told where the screen as a whole shows no fan."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.fan import Fan
from echofm.readers.evidence import Evidence

Cut = tuple[slice, slice]
# Rows and columns of images that a screen is cut into.
_GRIDS = ((1, 2), (1, 3), (2, 2), (2, 1), (3, 3))
# How far a cut is moved to where the least is shown, as a part of an image's side.
_MOVED = 0.25
# Two fans are two images where their apices are so far apart, against the depth of the smaller, neither has less than
# this part of the other's cells, and they share less than that of the smaller's.
_APART, _ALIKE, _SHARED = 0.4, 0.3, 0.1
# A fan that is whole leans to a side by so much at most, and shows so much of itself between its part's two sides.
_LEANS_RAD, _WHOLE = 0.2, 0.7


def several_fans(evidence: Evidence, find_fan: Callable[[Evidence], Fan | None]) -> bool:
    """Whether parts of the screen show fans of their own, two at least. find_fan: the convincing fan of a part."""
    shape = evidence.dimmest.shape
    for grid in _GRIDS:
        found: list[tuple[Fan, npt.NDArray[np.bool_]]] = []
        for rows, columns in _parts(evidence, *grid):
            fan = find_fan(evidence.within(rows, columns))
            if fan is None or not _is_whole(fan, shape):
                continue
            fan = fan.placed(row=rows.start, column=columns.start)
            own_HW = np.zeros(shape, bool)
            own_HW[rows, columns] = fan.mask(shape)[rows, columns]
            if any(_are_two(fan, own_HW, *other) for other in found):
                return True
            found.append((fan, own_HW))
    return False


def _is_whole(fan: Fan, shape: tuple[int, int]) -> bool:
    """Whether a part shows a fan of its own and not a piece of one that a cut or a shadow has parted.

    Such a piece hangs to one side, or has its apex at the cut.
    """
    height, width = shape
    uncut = replace(fan, left=-np.inf, right=np.inf).placed(column=width).mask((height, 3 * width))
    is_upright = abs(fan.first_rad + fan.last_rad) / 2 <= _LEANS_RAD
    return bool(is_upright and fan.mask(shape).sum() >= _WHOLE * uncut.sum())


def _are_two(fan: Fan, own_HW: npt.NDArray[np.bool_], other: Fan, its_HW: npt.NDArray[np.bool_]) -> bool:
    smaller, larger = sorted((int(own_HW.sum()), int(its_HW.sum())))
    depth = min(fan.far - fan.near, other.far - other.near)
    apart = np.hypot(fan.apex_row - other.apex_row, fan.apex_column - other.apex_column)
    shared = int((fan.mask(own_HW.shape) & other.mask(own_HW.shape)).sum())
    return bool(apart >= _APART * depth and smaller >= _ALIKE * larger and shared < _SHARED * smaller)


def _parts(evidence: Evidence, n_rows: int, n_columns: int) -> Iterator[Cut]:
    shows_HW = evidence.change if evidence.change.any() else evidence.dimmest
    for rows in _cut(shows_HW.sum(axis=1), n_rows):
        for columns in _cut(shows_HW[rows].sum(axis=0), n_columns):
            yield rows, columns


def _cut(shown_N: npt.NDArray[np.float32], count: int) -> list[slice]:
    """Where something is shown, cut into so many parts, each cut where the least is shown nearby."""
    there = np.flatnonzero(shown_N > 0.02 * shown_N.max()) if shown_N.max() > 0 else np.arange(len(shown_N))
    first, end = int(there[0]), int(there[-1]) + 1
    side = (end - first) / count
    cuts = [first]
    for number in range(1, count):
        low, high = (int(first + (number + moved) * side) for moved in (-_MOVED, _MOVED))
        cuts.append(low + int(np.argmin(shown_N[low : high + 1])))
    return [slice(low, high) for low, high in itertools.pairwise([*cuts, end]) if high - low > 8]
