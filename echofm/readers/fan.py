"""A fan fitted to a ragged blob: two straight edges that meet in an apex, and arcs round it.

The blob is what an ultrasound screen shows to be moving; its outline is dented by shadow and bulged by whatever text
touches it. Straight edges and arcs are what scan conversion draws, so each is found as the line, or the radius, on
which most of the outline lies, and the bulges are outvoted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Edges further from the vertical do not occur: the widest phased arrays open to about 120 degrees.
_WIDEST_EDGE_DEGREES = 65.0
# A steered sector's inner edge may lean past the vertical by this much.
_LEAN_DEGREES = 12.0
_HYPOTHESES = 64
_RAYS = 72
# An outline point outside a line or arc counts this much against the points on it.
_BEYOND_WEIGHT = 0.7
# Part of the blob's rows on which an edge must be seen to be an edge, and to be sure of it.
_SEEN, _SURE = 0.15, 0.25
# Part of the blob's rows (columns) on which the display must end it straight to be believed.
_CUT = 0.12


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The line column = offset + slope * row; `on` and `beyond`: parts of the blob's rows on it and outside of it."""

    offset: float
    slope: float
    on: float
    beyond: float

    def mirrored(self, width: int) -> Edge:
        """The same line in the image read from right to left."""
        return replace(self, offset=width - 1 - self.offset, slope=-self.slope)

    @property
    def is_sure(self) -> bool:
        """Seen on enough rows, with little bulging past it."""
        return self.on >= _SURE and self.beyond <= 0.4 * self.on


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Two edges and the arcs between them, in pixels, apex up.

    inner, outer: radii in columns; `outer` is infinite where the display cuts the arc off.
    leftmost, rightmost, lowest: columns and row at which the display cuts the fan straight, infinite where it does not.
    aspect: height over width of a pixel in millimetres, so that the arcs are circles in millimetres.
    arc: part of the rays from the apex that end on the outer arc; cut: part that the display ends.
    fit: agreement of the fan's area with the blob's, at most 1.
    """

    left: Edge
    right: Edge
    aspect: float
    inner: float = 0.0
    outer: float = np.inf
    leftmost: float = -np.inf
    rightmost: float = np.inf
    lowest: float = np.inf
    arc: float = 0.0
    cut: float = 0.0
    fit: float = 0.0

    @property
    def apex(self) -> tuple[float, float]:
        """(row, column) where the edges meet."""
        row = (self.right.offset - self.left.offset) / (self.left.slope - self.right.slope)
        return row, self.left.offset + self.left.slope * row

    @property
    def evidence(self) -> float:
        """How much of the outline lies on the fan, 0 to 1.5; two like edges count more."""
        slopes = sorted((abs(self.left.slope), abs(self.right.slope)))
        alike = slopes[0] > 0.8 * slopes[1]
        return (self.left.on + self.right.on) * (0.6 if alike else 0.5) + 0.5 * self.arc

    @property
    def score(self) -> float:
        """By which fans are compared: outline and area."""
        return self.fit + 1.5 * self.evidence

    @property
    def is_sure(self) -> bool:
        """Both edges and the lower end are seen well enough to trust the fan where the image is dark."""
        return self.left.is_sure and self.right.is_sure and self.arc + self.cut >= 0.5

    def mask(self, shape: tuple[int, int], *, margin: float) -> Mask:
        """True at least `margin` pixels inside the fan."""
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        apex_row, apex_column = self.apex
        inside = rows > apex_row
        for edge, side in ((self.left, 1.0), (self.right, -1.0)):
            inside &= (columns - edge.offset - edge.slope * rows) * side / np.hypot(1.0, edge.slope) >= margin
        radius = np.hypot((rows - apex_row) * self.aspect, columns - apex_column)
        inside &= (radius >= self.inner) & (radius <= self.outer - margin)
        inside &= (columns >= self.leftmost + margin) & (columns <= self.rightmost - margin)
        return inside & (rows <= self.lowest - margin)


def fit_fan(blob: Mask, *, aspect: float, tolerance: float) -> Fan | None:
    """The fan, apex up, that covers the blob best with its edges on the outline; None where no two edges meet above it.

    tolerance: pixels that a point may lie off a line or arc and still be on it.
    """
    rows = np.flatnonzero(blob.any(axis=1))
    if len(rows) < 8:
        return None
    width = blob.shape[1]
    left = Outline(rows=rows, columns=blob[rows].argmax(axis=1), tolerance=tolerance)
    # The right edge is the left edge of the mirror image.
    right = Outline(rows=rows, columns=blob[rows, ::-1].argmax(axis=1), tolerance=tolerance)
    lefts, rights = left.edges(), right.edges()
    # An edge lost in shadow or under text has the slope of the other one.
    lefts, rights = lefts + left.likened(rights, lefts), rights + right.likened(lefts, rights)
    leftmost = _straight_cut(left.columns, tolerance=tolerance)
    rightmost = width - 1 - _straight_cut(right.columns, tolerance=tolerance)
    lowest = len(blob) - 1 - _straight_cut(blob[::-1, blob.any(axis=0)].argmax(axis=0), tolerance=tolerance)
    best: Fan | None = None
    for one, two in itertools.product(lefts, rights):
        fan = Fan(
            left=one,
            right=two.mirrored(width),
            aspect=aspect,
            leftmost=leftmost,
            rightmost=rightmost,
            lowest=lowest,
        )
        if fan.left.slope > fan.right.slope - 0.3 or fan.apex[0] > rows[0] + 0.25 * len(rows):
            continue
        fan = _fit_arcs(blob, fan, tolerance=tolerance)
        fan = replace(fan, fit=_agreement(blob, fan.mask(blob.shape, margin=0.0)))
        if best is None or fan.score > best.score:
            best = fan
    return best


def _agreement(blob: Mask, mask: Mask) -> float:
    """How well a mask covers a blob, at most 1: what it covers, less its empty part, less a little for what it leaves.

    Text beside the sector adds less to the blob than the empty screen around it costs.
    """
    covered = float((blob & mask).sum())
    size = float(blob.sum())
    return (covered - 0.7 * (mask.sum() - covered) - 0.3 * (size - covered)) / size


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The blob's first column in each of its rows."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    tolerance: float

    def edges(self) -> list[Edge]:
        """The two unlike lines through most of the outline that leave few of it to their left, best first."""
        # At the frame's own border the outline is the frame's, not the fan's.
        free = np.flatnonzero(self.columns > 1)
        if len(free) < 8:
            return []
        picked = free[np.linspace(0, len(free) - 1, min(len(free), _HYPOTHESES)).round().astype(int)]
        one, two = np.triu_indices(len(picked), k=max(2, len(picked) // 10))
        one, two = picked[one], picked[two]
        slopes = (self.columns[two] - self.columns[one]) / (self.rows[two] - self.rows[one])
        low, high = -np.tan(np.radians(_WIDEST_EDGE_DEGREES)), np.tan(np.radians(_LEAN_DEGREES))
        keep = (slopes >= low) & (slopes <= high)
        slopes, through = slopes[keep], one[keep]
        score = self._score(slopes, self.columns[through] - slopes * self.rows[through])
        found: list[Edge] = []
        while len(found) < 2 and (score > 0).any():
            best = int(score.argmax())
            edge = self._refined(slopes[best], self.columns[through[best]] - slopes[best] * self.rows[through[best]])
            if edge.on >= _SEEN and edge.beyond <= 0.5 * edge.on:
                found.append(edge)
            score = np.where(np.abs(slopes - slopes[best]) < 0.15, -np.inf, score)
        return found

    def likened(self, others: list[Edge], own: list[Edge]) -> list[Edge]:
        """For each edge of the other side the best line of its slope, where there is none like it yet."""
        made = []
        for other in others:
            if all(abs(edge.slope - other.slope) > 0.04 for edge in own):
                offsets = self.columns - other.slope * self.rows
                offset = float(offsets[self._score(np.full(len(offsets), other.slope), offsets).argmax()])
                made.append(self._judged(other.slope, offset))
        return made

    def _distance(self, slopes: Floats, offsets: Floats) -> Floats:
        """Signed distance (lines, rows) of each outline point to the right of each line."""
        return (self.columns - offsets[:, None] - slopes[:, None] * self.rows) / np.hypot(1.0, slopes)[:, None]

    def _score(self, slopes: Floats, offsets: Floats) -> Floats:
        distance = self._distance(slopes, offsets)
        on = (np.abs(distance) <= self.tolerance) & (self.columns > 1)
        return on.sum(axis=1) - _BEYOND_WEIGHT * (distance < -self.tolerance).sum(axis=1)

    def _refined(self, slope: float, offset: float) -> Edge:
        """Least squares over the points on the line."""
        distance = self._distance(np.array([slope]), np.array([offset]))[0]
        on = (np.abs(distance) <= self.tolerance) & (self.columns > 1)
        fitted_slope, fitted_offset = np.polyfit(self.rows[on], self.columns[on], 1)
        return self._judged(float(fitted_slope), float(fitted_offset))

    def _judged(self, slope: float, offset: float) -> Edge:
        distance = self._distance(np.array([slope]), np.array([offset]))[0]
        on = (np.abs(distance) <= self.tolerance) & (self.columns > 1)
        return Edge(offset=offset, slope=slope, on=float(on.mean()), beyond=float((distance < -self.tolerance).mean()))


def _straight_cut(outline: npt.NDArray[np.int64], *, tolerance: float) -> float:
    """Where the display ends the blob in a straight upright line, counted from the frame; -inf where it does not."""
    values, counts = np.unique(outline, return_counts=True)
    on = np.array([counts[np.abs(values - value) <= tolerance].sum() for value in values])
    beyond = np.array([counts[values < value - tolerance].sum() for value in values])
    best = int((on - _BEYOND_WEIGHT * beyond).argmax())
    is_cut = on[best] >= _CUT * len(outline) and beyond[best] <= 0.4 * on[best]
    return float(values[best]) if is_cut else -np.inf


def _fit_arcs(blob: Mask, fan: Fan, *, tolerance: float) -> Fan:
    """Radii at which most rays from the apex enter the blob and leave it."""
    apex_row, apex_column = fan.apex
    height, width = blob.shape
    angles = np.linspace(np.arctan(fan.left.slope), np.arctan(fan.right.slope), _RAYS + 2)[1:-1]
    steps = np.arange(max(0.0, -apex_row), max(0.0, -apex_row) + 1.2 * np.hypot(height, width))
    rows = apex_row + steps * np.cos(angles)[:, None]
    columns = apex_column + steps * np.sin(angles)[:, None]
    framed = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    hit = framed & blob[rows.round().clip(0, height - 1).astype(int), columns.round().clip(0, width - 1).astype(int)]
    ray = np.flatnonzero(hit.any(axis=1))
    if len(ray) < _RAYS // 4:
        return fan
    enter = hit[ray].argmax(axis=1)
    leave = hit.shape[1] - 1 - hit[ray, ::-1].argmax(axis=1)
    end_row, end_column = rows[ray, leave], columns[ray, leave]
    cut = (end_row >= min(height - 1, fan.lowest) - tolerance) | (end_column <= max(0.0, fan.leftmost) + tolerance)
    cut |= end_column >= min(width - 1, fan.rightmost) - tolerance
    reach = np.hypot((end_row - apex_row) * fan.aspect, end_column - apex_column)
    start = np.hypot((rows[ray, enter] - apex_row) * fan.aspect, columns[ray, enter] - apex_column)
    outer, on_outer = _common_radius(reach[~cut], reach, tolerance=tolerance)
    # The transducer's face: mirrored in sign, as the blob lies beyond it.
    inner, on_inner = _common_radius(-start, -start, tolerance=tolerance)
    return replace(
        fan,
        outer=outer if on_outer >= 6 else np.inf,
        inner=max(0.0, -inner - tolerance) if on_inner >= len(ray) / 3 else 0.0,
        arc=on_outer / _RAYS,
        cut=float(cut.sum() / _RAYS),
    )


def _common_radius(candidates: Floats, all_radii: Floats, *, tolerance: float) -> tuple[float, int]:
    """The radius that most candidates share and few radii exceed, and how many share it."""
    if not len(candidates):
        return np.inf, 0
    on = np.abs(candidates - candidates[:, None]) <= tolerance
    beyond = (all_radii > candidates[:, None] + tolerance).sum(axis=1)
    best = int((on.sum(axis=1) - _BEYOND_WEIGHT * beyond).argmax())
    return float(np.median(candidates[on[best]])), int(on[best].sum())
