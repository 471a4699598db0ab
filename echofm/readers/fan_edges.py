"""The edges of a fan, to a fraction of a cell: its flanks, its radii, and how much of each flank is seen.

Along an edge a strip of the echo map is laid out: one row for each point of the edge, one column for each step across
it. Every row says where it would have the edge; how much it may object is capped, so that words beside a part of an
edge, or a shadow along it, are outvoted by the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from echofm.fan import Fan
from echofm.readers.evidence import Echo
from echofm.readers.fan_search import EMPTY

Floats = npt.NDArray[np.float32]

# Across an edge: cells to either side, and the step.
_REACH, _STEP = 8.0, 0.5
_ACROSS = np.arange(-_REACH, _REACH + _STEP / 2, _STEP, dtype=np.float32)
# Where the edge may run: between two columns of the strip, or at its ends.
_BETWEEN = np.append(_ACROSS - _STEP / 2, _ACROSS[-1] + _STEP / 2)
# What an empty cell inside costs at an edge, and the most that one point of it may object, in cells.
_EMPTY_AT_EDGE, _MOST_OBJECTION = 0.4, 1.5
_EMPTY_AT_FACE, _FACE = 0.75, round(3 / _STEP)
# A ring so deep, so wide as a part of the depth and so empty ends an echo.
_DEEP, _GAP_PART, _GAP_ECHO = 0.55, 0.03, 0.03
# So much of an arc seen is the end, whatever is beyond.
_CLEAR_ARC = 0.5
# Both ends of a flank are moved by up to so many cells in such steps, in turn.
_MOVES = ((6.0, 1.0), (3.0, 0.5), (1.5, 0.25))
# An edge is seen at a point where there is echo in the last cells inside and none in the first outside.
_BAND, _GAP = round(2.5 / _STEP), round(0.5 / _STEP)
_SOME, _NONE = 0.5, 0.3
# Cells of echo that make the first row of an echo, and rows by which a fan may begin below it.
_TOP_CELLS = 3
# Points from which on a share is one: a short edge is no evidence.
_ENOUGH_POINTS = 30
# A fan opens at least so far.
_NARROWEST_RAD = 0.3


@dataclass(frozen=True, kw_only=True)
class Flanks:
    """A fan, and how much of its first and last flank is seen, 0 to 1."""

    fan: Fan
    first: float
    last: float


def with_edges(echo_HW: Echo, fan: Fan) -> Flanks:
    """The fan with each edge where most of its points would have it. The screen ends it where it ends the map."""
    seen = {}
    for reach, step in _MOVES:
        for which in ("first_rad", "last_rad"):
            fan, seen[which] = _flank_moved(echo_HW, fan, which, reach, step)
        fan = _radii_moved(echo_HW, fan)
    return Flanks(fan=fan, first=seen["first_rad"], last=seen["last_rad"])


def with_flanks(echo_HW: Echo, fan: Fan, flanks: Sequence[str], *, reach: float) -> Fan:
    """The fan with the named flanks moved by `reach` cells at most to where this map would have them."""
    for which in flanks:
        fan, _ = _flank_moved(echo_HW, fan, which, reach, _MOVES[-1][1])
    return fan


def _flank_moved(echo_HW: Echo, fan: Fan, which: str, reach: float, step: float) -> tuple[Fan, float]:
    """The fan with one flank moved and turned, and how much of the flank is seen."""
    angle = getattr(fan, which)
    outward = np.array([np.sin(angle), -np.cos(angle)]) * (1 if which == "first_rad" else -1)
    radius = np.arange(max(fan.near, 0.0), fan.far)
    points = _on_screen(echo_HW, fan.apex_row + radius * np.cos(angle), fan.apex_column + radius * np.sin(angle))
    if points.shape[1] < 8:
        return fan, 0.0
    strip = _sampled(echo_HW, points[0][:, None] + outward[0] * _ACROSS, points[1][:, None] + outward[1] * _ACROSS)
    objections = _objections(strip)
    # Every pair of moves of the flank's two ends.
    moves = np.arange(-reach, reach + step / 2, step)
    near_move, far_move = (each.ravel()[:, None] for each in np.meshgrid(moves, moves))
    along = np.linspace(0, 1, points.shape[1])
    place = np.rint((near_move + (far_move - near_move) * along - _BETWEEN[0]) / _STEP).astype(int)
    agreed = objections[np.arange(len(strip)), place].sum(axis=1)
    # Of equals the nearest to where it was.
    best = int((agreed + 1e-3 * (np.abs(near_move) + np.abs(far_move))[:, 0]).argmin())
    ends = points[:, [0, -1]] + outward[:, None] * np.array([near_move[best, 0], far_move[best, 0]])
    moved = _through(fan, which, ends)
    return (fan, 0.0) if moved is None else (moved, _seen(strip, place[best]))


def _through(fan: Fan, which: str, ends: npt.NDArray[np.float64]) -> Fan | None:
    """The fan whose one flank runs through two points (row, column); None where its flanks would not meet."""
    down, across = ends[:, 1] - ends[:, 0]
    angle = float(np.arctan2(across, down))
    moved = replace(fan, **{which: angle})
    if moved.last_rad - moved.first_rad < _NARROWEST_RAD:
        return None
    other = fan.last_rad if which == "first_rad" else fan.first_rad
    # The other flank is followed to where this one crosses it.
    row, column = ends[0, 0] - fan.apex_row, ends[1, 0] - fan.apex_column
    shift = float((row * np.sin(angle) - column * np.cos(angle)) / np.sin(angle - other))
    return _slid(moved, other, shift)


def _slid(fan: Fan, angle: float, shift: float) -> Fan:
    """The fan with its apex moved along a beam, its arcs where they were on the middle of the screen."""
    down = shift * np.cos(angle)
    return replace(
        fan,
        apex_row=float(fan.apex_row + down),
        apex_column=float(fan.apex_column + shift * np.sin(angle)),
        near=float(max(0.0, fan.near - down)),
        far=float(fan.far - down),
    )


def _radii_moved(echo_HW: Echo, fan: Fan) -> Fan:
    """The fan with its arcs moved."""
    for which, outward in (("far", 1.0), ("near", -1.0)):
        strip = _arc_strip(echo_HW, fan, which, outward)
        if strip is not None:
            objections = _objections(strip).sum(axis=0) + 1e-3 * np.abs(_BETWEEN)
            moved = getattr(fan, which) + outward * float(_BETWEEN[objections.argmin()])
            fan = replace(fan, **{which: max(0.0, moved)})
    return fan


def far_arc_seen(echo_HW: Echo, fan: Fan) -> float:
    """Share of the far arc's rays with echo inside of it and none outside; 1 where the screen cuts the arc off."""
    return float(_arcs_seen(echo_HW, fan, np.array([fan.far]), off_screen=1.0)[0])


def _arcs_seen(
    echo_HW: Echo, fan: Fan, radii: npt.NDArray[np.float64], *, off_screen: float
) -> npt.NDArray[np.float64]:
    """`_seen` of an arc at each of some radii, _STEP apart; off_screen where too few of its rays are on the screen."""
    beyond = len(_ACROSS) // 2
    rays = _rays(fan, radii[-1])
    reached = radii[0] + _STEP * np.arange(-beyond, len(radii) + beyond)
    strip = _sampled(echo_HW, fan.apex_row + np.cos(rays) * reached, fan.apex_column + np.sin(rays) * reached)
    at = beyond + np.arange(len(radii))

    def any_of(flags: npt.NDArray[np.bool_], first: int, last: int) -> npt.NDArray[np.bool_]:
        sums = np.pad(np.cumsum(flags, axis=1), ((0, 0), (1, 0)))
        return np.asarray(sums[:, at + last + 1] > sums[:, at + first])

    off, echo = np.isnan(strip), np.nan_to_num(strip)
    is_on = ~any_of(off, -beyond, beyond)
    known = is_on & any_of(echo >= _SOME, -beyond, beyond)
    edge = known & any_of(echo >= _SOME, -_BAND, -1) & ~any_of(echo >= _NONE, _GAP, _GAP + _BAND - 1)
    seen = edge.sum(axis=0) / np.maximum(known.sum(axis=0), _ENOUGH_POINTS)
    return np.where(is_on.sum(axis=0) >= _enough(rays), seen, off_screen)


def _rays(fan: Fan, radius: float) -> npt.NDArray[np.float64]:
    """Angles (rays, 1) about one cell apart on an arc, those of the flanks left out."""
    count = int(np.clip(radius * (fan.last_rad - fan.first_rad), 24, 256))
    return np.linspace(fan.first_rad, fan.last_rad, count)[1:-1, None]


def _enough(rays: npt.NDArray[np.float64]) -> float:
    return max(4.0, 0.1 * len(rays))


def _arc_strip(echo_HW: Echo, fan: Fan, which: str, outward: float) -> Floats | None:
    """The strip across an arc, of the rays that are on the screen there; None where these are too few."""
    radius = getattr(fan, which)
    rays, reached = _rays(fan, radius), radius + outward * _ACROSS
    strip = _sampled(echo_HW, fan.apex_row + np.cos(rays) * reached, fan.apex_column + np.sin(rays) * reached)
    strip = strip[~np.isnan(strip).any(axis=1)]
    return strip if len(strip) >= _enough(rays) else None


def with_radii(echo_HW: Echo, fan: Fan) -> Fan:
    """The fan between its flanks with the radii of the largest sum of (echo - EMPTY); at its face echo is dense."""
    widest = replace(fan, near=0.0, far=4.0 * float(np.hypot(*echo_HW.shape)) + abs(fan.apex_row))
    rows, columns = np.nonzero(widest.mask(echo_HW.shape))
    radius = np.hypot(rows - fan.apex_row, columns - fan.apex_column)
    first = np.floor(radius.min(initial=0.0) / _STEP)
    ring = (radius / _STEP - first).astype(int)
    echo, area = np.bincount(ring, echo_HW[rows, columns], 1), np.bincount(ring, minlength=1)
    far = int(np.cumsum(echo - EMPTY * area).argmax())
    near = int(np.append(0.0, np.cumsum(echo - EMPTY * area)[: far + 1]).argmin())
    near += int(np.append(0.0, np.cumsum(echo - _EMPTY_AT_FACE * area)[near : near + _FACE]).argmin())
    return replace(fan, near=float((first + near + 1) * _STEP), far=float((first + far) * _STEP))


def with_face(echo_HW: Echo, fan: Fan) -> Fan:
    """The fan from as near its apex as rings are dense with echo: right before a transducer it may stand still."""
    rows, columns = np.nonzero(replace(fan, near=0.0, far=fan.near).mask(echo_HW.shape))
    ring = np.hypot(rows - fan.apex_row, columns - fan.apex_column).astype(int)
    echo, area = np.bincount(ring, echo_HW[rows, columns], 1), np.bincount(ring, minlength=1)
    loose = np.flatnonzero(echo < _EMPTY_AT_FACE * area)
    return replace(fan, near=min(fan.near, float(loose[-1] + 1))) if len(loose) else fan


def clear_arc(echo_HW: Echo, fan: Fan) -> float:
    """The radius, short of the fan's, at which most of its rays end: a banner is beyond; inf without one."""
    radii = np.arange(fan.near + _DEEP * (fan.far - fan.near), fan.far - _BAND * _STEP, _STEP)
    if not len(radii):
        return np.inf
    seen = _arcs_seen(echo_HW, fan, radii, off_screen=0.0)
    return float(radii[seen.argmax()]) if seen.max() >= _CLEAR_ARC else np.inf


def first_gap(echo_HW: Echo, fan: Fan) -> float:
    """The radius from which on an empty ring parts what is beyond, such as a banner, from the echo; inf without one."""
    rows, columns = np.nonzero(fan.mask(echo_HW.shape))
    radius = np.hypot(rows - fan.apex_row, columns - fan.apex_column)
    ring = radius.astype(int)
    echo, area = np.bincount(ring, echo_HW[rows, columns], 1), np.bincount(ring, minlength=1)
    wide = max(3, round(_GAP_PART * (fan.far - fan.near)))
    echo_before, area_before = (np.append(0.0, np.cumsum(each)) for each in (echo, area))
    gap_echo, gap_area = (each[wide:] - each[:-wide] for each in (echo_before, area_before))
    start = int(fan.near + _DEEP * (fan.far - fan.near))
    gaps = start + np.flatnonzero(gap_echo[start:] < _GAP_ECHO * gap_area[start:])
    return float(gaps[0]) if len(gaps) else np.inf


def mirrored(echo_HW: Echo, fan: Fan, *, strong: str) -> Fan:
    """The symmetrical fan of one flank, whose other flank encloses the largest sum of (echo - EMPTY).

    It begins no lower than the echo, as nothing is dark right before the transducer.
    """
    angle = getattr(fan, strong)
    alike = replace(fan, first_rad=-abs(angle), last_rad=abs(angle), near=0.0)
    top = int(((echo_HW >= _SOME).sum(axis=1) >= _TOP_CELLS).argmax())
    slid = [_slid(alike, angle, part * fan.far) for part in np.arange(-0.5, 0.5, 0.02)]
    begins = [one for one in slid if one.apex_row <= top + _TOP_CELLS]
    return max(begins or slid, key=lambda one: float((echo_HW[one.mask(echo_HW.shape)] - EMPTY).sum()))


def _on_screen(
    echo_HW: Echo, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    inside = (rows >= 0) & (rows <= echo_HW.shape[0] - 1) & (columns >= 0) & (columns <= echo_HW.shape[1] - 1)
    return np.stack([rows[inside], columns[inside]])


def _sampled(echo_HW: Echo, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]) -> Floats:
    """The map's nearest cells; NaN off the screen."""
    height, width = echo_HW.shape
    row, column = np.floor(rows + 0.5).astype(np.int32), np.floor(columns + 0.5).astype(np.int32)
    off = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    strip = echo_HW[row.clip(0, height - 1), column.clip(0, width - 1)]
    strip[off] = np.nan
    return strip


def _objections(strip: Floats) -> Floats:
    """(points, places of the edge): by how many cells a point would rather have the edge elsewhere, capped."""
    gain = np.where(np.isnan(strip), 0, strip - np.float32(_EMPTY_AT_EDGE)) * np.float32(_STEP)
    sums = np.zeros((strip.shape[0], strip.shape[1] + 1), np.float32)
    np.cumsum(gain, axis=1, out=sums[:, 1:])
    objections = np.minimum(sums.max(axis=1, keepdims=True) - sums, np.float32(_MOST_OBJECTION))
    return objections * _has_echo(strip)[:, None]


def _has_echo(strip: Floats) -> npt.NDArray[np.bool_]:
    """Whether there is any echo near a point: in a shadow nobody can tell."""
    return np.asarray((np.nan_to_num(strip) >= _SOME).any(axis=1))


def _seen(strip: Floats, place: npt.NDArray[np.int64]) -> float:
    """Share of an edge's points with echo inside of it and none outside, of those on the screen and in no shadow."""
    points, last = np.arange(len(strip))[:, None], strip.shape[1] - 1
    inside = strip[points, (place[:, None] - 1 - np.arange(_BAND)).clip(0, last)]
    outside = strip[points, (place[:, None] + _GAP + np.arange(_BAND)).clip(0, last)]
    known = ~np.isnan(outside).all(axis=1) & _has_echo(strip)
    edge = (np.nan_to_num(inside).max(axis=1) >= _SOME) & (np.nan_to_num(outside).max(axis=1) < _NONE)
    return float((edge & known).sum() / max(known.sum(), _ENOUGH_POINTS))
