"""A fan fitted to a ragged blob: two straight edges that meet in an apex, and arcs round it.

The blob is what an ultrasound screen shows to be moving; its outline is dented by shadow and bulged by whatever text
touches it. Straight edges and arcs are what scan conversion draws, so each is found as the line, or the radius, on
which most of the outline lies, and the bulges are outvoted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Edges further from the vertical do not occur: the widest phased arrays open to about 120 degrees.
_WIDEST_EDGE_DEGREES = 65.0
# A steered sector's inner edge may lean past the vertical by this much.
_LEAN_DEGREES = 12.0
_HYPOTHESES = 72
_RAYS = 96
# An outline point outside a line or arc counts this much against the points on it.
_BEYOND_WEIGHT = 0.7
# Part of the blob's rows on which an edge must be seen to be an edge, and to be sure of it.
_SEEN, _SURE = 0.15, 0.25


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

    inner, outer: radii in columns; `outer` is infinite where the frame cuts the arc off.
    aspect: height over width of a pixel in millimetres, so that the arcs are circles in millimetres.
    arc: part of the rays from the apex that end on the outer arc; cut: part that the frame ends.
    """

    left: Edge
    right: Edge
    aspect: float
    inner: float = 0.0
    outer: float = np.inf
    arc: float = 0.0
    cut: float = 0.0

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
        return inside & (radius >= self.inner) & (radius <= self.outer - margin)


def fit_fan(blob: Mask, *, aspect: float, tolerance: float) -> Fan | None:
    """The fan, apex up, that most of the blob's outline lies on; None where no two edges meet above the blob.

    tolerance: pixels that a point may lie off a line or arc and still be on it.
    """
    rows = np.flatnonzero(blob.any(axis=1))
    if len(rows) < 8:
        return None
    width = blob.shape[1]
    first = blob[rows].argmax(axis=1)
    # The right edge is the left edge of the mirror image.
    first_mirrored = blob[rows, ::-1].argmax(axis=1)
    left = _fit_edge(rows, first, tolerance=tolerance)
    right = _fit_edge(rows, first_mirrored, tolerance=tolerance)
    if left is None and right is None:
        return None
    # An edge that is lost in shadow is the other's mirror image, moved up to the blob.
    left = left or _supporting(rows, first, slope=right.slope if right else 0.0)
    right = right or _supporting(rows, first_mirrored, slope=left.slope)
    fan = Fan(left=left, right=right.mirrored(width), aspect=aspect)
    if fan.left.slope > fan.right.slope - 0.3 or fan.apex[0] > rows[0] + 0.25 * len(rows):
        return None
    return _fit_arcs(blob, fan, tolerance=tolerance)


def _fit_edge(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], *, tolerance: float) -> Edge | None:
    """The line through most of the outline points that leaves few of them to its left; None where none is seen."""
    # At the frame's own border the outline is the frame's, not the fan's.
    free = columns > 1
    if free.sum() < 8:
        return None
    row, column = rows[free].astype(np.float64), columns[free].astype(np.float64)
    picked = np.linspace(0, len(row) - 1, min(len(row), _HYPOTHESES)).round().astype(int)
    one, two = np.triu_indices(len(picked), k=max(2, len(picked) // 10))
    one, two = picked[one], picked[two]
    slope = (column[two] - column[one]) / (row[two] - row[one])
    low, high = -np.tan(np.radians(_WIDEST_EDGE_DEGREES)), np.tan(np.radians(_LEAN_DEGREES))
    keep = (slope >= low) & (slope <= high)
    if not keep.any():
        return None
    slope = slope[keep]
    offset = column[one][keep] - slope * row[one][keep]
    distance = (column - offset[:, None] - slope[:, None] * row) / np.hypot(1.0, slope)[:, None]
    on = np.abs(distance) <= tolerance
    beyond = (distance < -tolerance).sum(axis=1)
    best = int((on.sum(axis=1) - _BEYOND_WEIGHT * beyond).argmax())
    fitted_slope, fitted_offset = np.polyfit(row[on[best]], column[on[best]], 1)
    edge = Edge(
        offset=float(fitted_offset),
        slope=float(fitted_slope),
        on=float(on[best].sum() / len(rows)),
        beyond=float(beyond[best] / len(rows)),
    )
    return edge if edge.on >= _SEEN and edge.beyond <= 0.4 * edge.on else None


def _supporting(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], *, slope: float) -> Edge:
    """The line of this slope that leaves one outline point in fifty to its left."""
    return Edge(offset=float(np.quantile(columns - slope * rows, 0.02)), slope=slope, on=0.0, beyond=0.0)


def _fit_arcs(blob: Mask, fan: Fan, *, tolerance: float) -> Fan:
    """Radii at which most rays from the apex enter the blob and leave it."""
    apex_row, apex_column = fan.apex
    height, width = blob.shape
    angles = np.linspace(np.arctan(fan.left.slope), np.arctan(fan.right.slope), _RAYS + 2)[1:-1]
    steps = np.arange(0.0, 1.5 * (np.hypot(height, width) + max(0.0, -apex_row)), 0.5)
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
    cut = (end_row >= height - 2) | (end_column <= 1) | (end_column >= width - 2)
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
