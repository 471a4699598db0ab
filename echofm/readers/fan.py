"""A fan fitted to a ragged blob: two straight edges that meet in an apex, and an arc.

The blob is what an ultrasound screen shows to be moving; its outline is dented by shadow and bulged by whatever text
touches it. Straight edges and an arc are what scan conversion draws, so each is found as the line, or the radius, on
which most of the outline lies, and the bulges are outvoted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.int64]

# Edges steeper than this from the vertical do not occur: the widest phased arrays open to about 120 degrees.
_WIDEST_EDGE_DEGREES = 65.0
# An edge may lean towards the other one by this much (steered sectors).
_LEAN_DEGREES = 12.0
_HYPOTHESES = 72
_RAYS = 96


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The line column = offset + slope * row; `inliers` outline points lie on it, `beyond` outside of it."""

    offset: float
    slope: float
    inliers: int
    beyond: int


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Two edges and an arc round their intersection, in pixels; `radius` None where the frame cuts the arc off.

    aspect: height over width of a pixel in millimetres, so that the arc is a circle in millimetres.
    evidence: part of the outline, 0 to 1, that lies on the fan.
    """

    left: Edge
    right: Edge
    radius: float | None
    aspect: float
    evidence: float

    @property
    def apex(self) -> tuple[float, float]:
        """(row, column) where the edges meet."""
        row = (self.right.offset - self.left.offset) / (self.left.slope - self.right.slope)
        return row, self.left.offset + self.left.slope * row

    def mask(self, shape: tuple[int, int], *, margin: float) -> Mask:
        """True at least `margin` pixels inside the fan."""
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        inside = np.ones(shape, bool)
        for edge, side in ((self.left, 1.0), (self.right, -1.0)):
            distance = (columns - edge.offset - edge.slope * rows) * side / np.hypot(1.0, edge.slope)
            inside &= distance >= margin
        apex_row, apex_column = self.apex
        inside &= rows >= apex_row
        if self.radius is not None:
            distance = np.hypot((rows - apex_row) * self.aspect, columns - apex_column)
            inside &= distance <= self.radius - margin
        return inside


def fit_fan(blob: Mask, *, aspect: float, tolerance: float) -> Fan | None:
    """The fan, apex up, that most of the blob's outline lies on; None where no two edges meet above the blob."""
    rows = np.flatnonzero(blob.any(axis=1))
    if len(rows) < 8:
        return None
    width = blob.shape[1]
    first = blob[rows].argmax(axis=1)
    last = width - 1 - blob[rows][:, ::-1].argmax(axis=1)
    left = _fit_edge(np.column_stack([rows, first]), tolerance=tolerance, at_frame=first <= 1)
    # The right edge is the left edge of the mirror image.
    mirrored = _fit_edge(np.column_stack([rows, width - 1 - last]), tolerance=tolerance, at_frame=last >= width - 2)
    pair = _complete(left, mirrored, rows, first, last, width)
    if pair is None:
        return None
    left, right = pair
    if left.slope >= right.slope - 0.2:
        return None
    fan = Fan(left=left, right=right, radius=None, aspect=aspect, evidence=0.0)
    if fan.apex[0] > rows[0] + 0.25 * len(rows):
        return None
    radius, arc_part = _fit_radius(blob, fan, tolerance=tolerance)
    evidence = (left.inliers + right.inliers) / (2 * len(rows)) + 0.5 * arc_part
    return Fan(left=left, right=right, radius=radius, aspect=aspect, evidence=evidence)


def _fit_edge(points: Points, *, tolerance: float, at_frame: Mask) -> Edge | None:
    """The line through most of the (row, column) points that leaves few of them to its left."""
    free = points[~at_frame].astype(np.float64)
    if len(free) < 8:
        return None
    picked = free[np.linspace(0, len(free) - 1, min(len(free), _HYPOTHESES)).round().astype(int)]
    one, two = np.triu_indices(len(picked), k=max(2, len(picked) // 10))
    slope = (picked[two, 1] - picked[one, 1]) / (picked[two, 0] - picked[one, 0])
    low, high = -np.tan(np.radians(_WIDEST_EDGE_DEGREES)), np.tan(np.radians(_LEAN_DEGREES))
    keep = (slope >= low) & (slope <= high)
    if not keep.any():
        return None
    slope = slope[keep]
    offset = picked[one, 1][keep] - slope * picked[one, 0][keep]
    signed = (free[:, 1] - offset[:, None] - slope[:, None] * free[:, 0]) / np.hypot(1.0, slope)[:, None]
    on_line = np.abs(signed) <= tolerance
    beyond = (signed < -tolerance).sum(axis=1)
    best = int((on_line.sum(axis=1) - 0.7 * beyond).argmax())
    chosen = free[on_line[best]]
    fitted = np.polyfit(chosen[:, 0], chosen[:, 1], 1)
    return Edge(
        offset=float(fitted[1]), slope=float(fitted[0]), inliers=int(on_line[best].sum()), beyond=int(beyond[best])
    )


def _complete(
    left: Edge | None, mirrored: Edge | None, rows: Points, first: Points, last: Points, width: int
) -> tuple[Edge, Edge] | None:
    """Both edges in image columns; one that is lost in shadow is the other's mirror image, moved up to the blob."""
    enough = 0.15 * len(rows)
    left = left if left is not None and left.inliers >= enough else None
    mirrored = mirrored if mirrored is not None and mirrored.inliers >= enough else None
    if left is None:
        if mirrored is None:
            return None
        left = _supporting(rows, first, slope=mirrored.slope)
    elif mirrored is None:
        mirrored = _supporting(rows, width - 1 - last, slope=left.slope)
    right = Edge(
        offset=width - 1 - mirrored.offset, slope=-mirrored.slope, inliers=mirrored.inliers, beyond=mirrored.beyond
    )
    return left, right


def _supporting(rows: Points, columns: Points, *, slope: float) -> Edge:
    """The line of this slope that leaves one outline point in fifty to its left."""
    return Edge(offset=float(np.quantile(columns - slope * rows, 0.02)), slope=slope, inliers=0, beyond=0)


def _fit_radius(blob: Mask, fan: Fan, *, tolerance: float) -> tuple[float | None, float]:
    """Radius on which most rays from the apex leave the blob, and the part of them that do."""
    apex_row, apex_column = fan.apex
    angles = np.linspace(np.arctan(fan.left.slope), np.arctan(fan.right.slope), _RAYS + 2)[1:-1]
    height, width = blob.shape
    steps = np.arange(0.0, np.hypot(height, width) * 1.5, 0.5)
    # Rays at constant angle in pixels; lengths are taken in millimetres' proportion below.
    rows = apex_row + steps * np.cos(angles)[:, None]
    columns = apex_column + steps * np.sin(angles)[:, None]
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    hit = inside & blob[rows.round().clip(0, height - 1).astype(int), columns.round().clip(0, width - 1).astype(int)]
    reached = hit.any(axis=1)
    last = hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)
    ray = np.arange(len(angles))
    end_row, end_column = rows[ray, last], columns[ray, last]
    cut_off = (end_row >= height - 2) | (end_column <= 1) | (end_column >= width - 2)
    free = reached & ~cut_off
    if free.sum() < 6:
        return None, 0.0
    radii = np.hypot((end_row - apex_row) * fan.aspect, end_column - apex_column)
    candidates = radii[free]
    on_arc = np.abs(radii[free] - candidates[:, None]) <= tolerance
    # Rays that the frame cuts off reached at least so far.
    beyond = (radii[reached] > candidates[:, None] + tolerance).sum(axis=1)
    best = int((on_arc.sum(axis=1) - 0.7 * beyond).argmax())
    return float(np.median(candidates[on_arc[best]])), float(on_arc[best].sum() / len(angles))
