"""Which fan holds most of an echo: an exhaustive search on a small map, in the polar coordinates of each apex.

The best fan has the largest sum of (echo - EMPTY) over its pixels, where echo is a map in [0, 1]: every pixel that
shows echo votes, so a dark cavity or a shadow costs little, and a banner beside the sector does not pay for the empty
screen around it. About an apex a fan is a rectangle of angles and radii, so sums over all fans come from cumulative
sums.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from echofm.fan import Fan
from echofm.readers.evidence import Echo

Floats = npt.NDArray[np.float64]

# What a pixel of a fan costs: the part of its pixels that must show echo to pay for themselves.
EMPTY = 0.3
# The map searched has at most this many cells a side.
_CELLS = 56
_OFF_SCREEN = -1.0
# While it is sought a fan is not cut.
_WHOLE_MAP = {"top": -np.inf, "left": -np.inf, "bottom": np.inf, "right": np.inf}
# The transducer's face is short against the depth: near radius times opening over (far - near) at most. A phased
# array's is .1, a curved one's .3; several hearts in one picture make a fan only with a larger one.
_MOST_FACE, _MOST_CUT_FACE = 0.35, 0.45
# A fan's axis leans at most this far from the vertical, and one that leans less is taken for as good by this much a
# radian: most are symmetrical, and one edge may be hidden.
_MOST_LEAN_RAD, _LEAN_COST = np.radians(20), 0.3
# Steps of the first search, then of the finer ones: apex as a part of the map's sides, angle, and cells of radius.
_APEX_ROWS, _APEX_COLUMNS = np.arange(-1.0, 0.41, 0.1), np.arange(0.2, 0.81, 0.1)
_ANGLE_RAD, _WIDEST, _NARROWEST = np.radians(5), 14, 4
_RADII = 30
# Fans of the first search that are sought more finely, and how far apart their apexes lie, as parts of the sides.
_CANDIDATES, _APART = 4, 0.25
_FINER = ((0.05, np.radians(2.5), 36), (0.025, np.radians(1.25), 40))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Apexes (A, 2), edges of the angle cells, edges of the radius cells, and pairs (2, P) of angle edges tried."""

    apexes: Floats
    angles_rad: npt.NDArray[np.floating]
    radii: Floats
    pairs: npt.NDArray[np.int64]


def search_fan(echo_HW: Echo) -> Fan:
    """The fan, apex up, that holds most of the echo, to about two cells of a map of 56: its edges are for later."""
    step = -(-max(echo_HW.shape) // _CELLS)
    small_HW = _reduced(echo_HW, step)
    height, width = small_HW.shape
    candidates = _best(small_HW, _first_grid(height, width), count=_CANDIDATES)
    for apex_step, angle_rad, cells in _FINER:
        steps = apex_step * height, apex_step * width
        grids = [_grid_about(each, steps, angle_rad, cells) for _, each in candidates]
        candidates = [_best(small_HW, grid)[0] for grid in grids]
    _, found = max(candidates, key=lambda each: each[0])
    bottom, right = (side - 0.5 for side in echo_HW.shape)
    return replace(found.placed(scale=step), top=-0.5, left=-0.5, bottom=bottom, right=right)


def _reduced(echo_HW: Echo, step: int) -> Echo:
    height, width = (-(-size // step) for size in echo_HW.shape)
    padded = np.pad(echo_HW, ((0, height * step - echo_HW.shape[0]), (0, width * step - echo_HW.shape[1])), "edge")
    return padded.reshape(height, step, width, step).mean(axis=(1, 3), dtype=np.float32)


@functools.lru_cache(maxsize=16)
def _first_grid(height: int, width: int) -> _Grid:
    apexes = np.array([(row * height, column * width) for row in _APEX_ROWS for column in _APEX_COLUMNS])
    angles_rad = np.arange(-_WIDEST, _WIDEST + 1) * float(_ANGLE_RAD)
    pairs = np.stack(np.triu_indices(len(angles_rad), k=_NARROWEST))
    lean_rad = np.abs(angles_rad[pairs].sum(axis=0)) / 2
    radii = np.linspace(0, 2.0 * max(height, width), _RADII + 1)
    return _Grid(apexes=apexes, angles_rad=angles_rad, radii=radii, pairs=pairs[:, lean_rad <= _MOST_LEAN_RAD + 1e-6])


def _grid_about(found: Fan, apex_steps: tuple[float, float], angle_rad: float, cells: int) -> _Grid:
    """Apexes, edges and radii two steps to either side of what was found."""
    two = np.arange(-2, 3)
    rows, columns = found.apex_row + two * apex_steps[0], found.apex_column + two * apex_steps[1]
    opening = round((found.last_rad - found.first_rad) / angle_rad)
    depth = found.far - found.near
    return _Grid(
        apexes=np.array([(row, column) for row in rows for column in columns]),
        angles_rad=found.first_rad + np.arange(-2, opening + 3) * angle_rad,
        radii=np.linspace(max(0.0, found.near - depth / 4), found.far + depth / 4, cells + 1),
        pairs=np.stack([first.ravel() for first in np.meshgrid(two + 2, two + 2 + opening, indexing="ij")]),
    )


def _best(echo_HW: Echo, grid: _Grid, *, count: int = 1) -> list[tuple[float, Fan]]:
    """The fans of the grid with the largest sums, with these; `count` at most, whose apexes lie apart."""
    # Sums over angles up to each edge and radii up to each edge: (A, angle edges, radius edges).
    gain = _polar_gain(echo_HW, grid)
    sums = np.zeros((len(gain), gain.shape[1] + 1, gain.shape[2] + 1), np.float32)
    np.cumsum(np.cumsum(gain, axis=1), axis=2, out=sums[:, 1:, 1:])
    within = sums[:, grid.pairs[1]] - sums[:, grid.pairs[0]]
    # The best near edge for each far edge is the lowest sum before it, as far as the transducer's face allows.
    nearest = _last_near_edge(grid)
    before = np.minimum.accumulate(within[..., :-1], axis=2)
    rings = within[..., 1:] - np.take_along_axis(before, np.maximum(nearest, 0)[None], axis=2)
    rings[:, nearest < 0] = -np.inf
    rings[_is_cut_too_wide(grid)] = -np.inf
    scores = rings.max(axis=2) * (1 - _LEAN_COST * np.abs(grid.angles_rad[grid.pairs].sum(axis=0)) / 2)
    apart = _APART * np.array(echo_HW.shape)
    found: list[tuple[float, Fan]] = []
    for apex in np.argsort(-scores.max(axis=1)):
        row, column = grid.apexes[apex]
        if any(abs(row - one.apex_row) < apart[0] and abs(column - one.apex_column) < apart[1] for _, one in found):
            continue
        pair = int(scores[apex].argmax())
        far = int(rings[apex, pair].argmax())
        near = int(within[apex, pair, : nearest[pair, far] + 1].argmin())
        first, last = grid.angles_rad[grid.pairs[:, pair]].tolist()
        fan = Fan(
            apex_row=float(row),
            apex_column=float(column),
            first_rad=first,
            last_rad=last,
            near=float(grid.radii[near]),
            far=float(grid.radii[far + 1]),
            **_WHOLE_MAP,
        )
        found.append((float(scores[apex, pair]), fan))
        if len(found) == count:
            break
    return found


def _polar_gain(echo_HW: Echo, grid: _Grid) -> Echo:
    """(echo - EMPTY) times its area in every polar cell (A, angles, radii) about each apex; 0 off the screen."""
    height, width = echo_HW.shape
    rimmed = np.full((height + 2, width + 2), _OFF_SCREEN, np.float32)
    rimmed[1:-1, 1:-1] = echo_HW
    angle = ((grid.angles_rad[:-1] + grid.angles_rad[1:]) / 2)[:, None].astype(np.float32)
    radius = ((grid.radii[:-1] + grid.radii[1:]) / 2).astype(np.float32)
    apex_row, apex_column = grid.apexes.T[:, :, None, None].astype(np.float32) + np.float32(1.5)
    rows = np.clip(apex_row + np.cos(angle) * radius, 0, height + 1).astype(np.int32)
    columns = np.clip(apex_column + np.sin(angle) * radius, 0, width + 1).astype(np.int32)
    echo = rimmed.ravel().take(rows * (width + 2) + columns)
    area = radius * np.float32((grid.radii[1] - grid.radii[0]) * (grid.angles_rad[1] - grid.angles_rad[0]))
    return np.where(echo == _OFF_SCREEN, np.float32(0), echo - np.float32(EMPTY)) * area


def _last_near_edge(grid: _Grid) -> npt.NDArray[np.int64]:
    """(P, far edges): the last edge that may be the near one; -1 where none may."""
    opening_rad = np.diff(grid.angles_rad[grid.pairs], axis=0)[0][:, None]
    most = grid.radii[1:] * _MOST_FACE / (opening_rad + _MOST_FACE)
    edge = np.searchsorted(grid.radii, most.ravel(), side="right").reshape(most.shape) - 1
    return np.minimum(edge, np.arange(len(grid.radii) - 1))


def _is_cut_too_wide(grid: _Grid) -> npt.NDArray[np.bool_]:
    """(A, P, far edges): whether the screen's top cuts the fan where it is wider than a transducer's face."""
    opening_rad = np.diff(grid.angles_rad[grid.pairs], axis=0)[0][:, None]
    above = np.maximum(0.0, -grid.apexes[:, 0])[:, None, None]
    return above * opening_rad > _MOST_CUT_FACE * (grid.radii[1:] - above)
