"""The shape of an ultrasound sector on a screen: two straight edges that meet in an apex, and arcs round it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

# Part of the outline's rows on which an edge must be seen to be sure of it.
_SURE = 0.25


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

    @property
    def rank(self) -> tuple[bool, float]:
        """By which the fan of several is chosen: any sure one before an unsure one, then the score."""
        return self.is_sure, self.score

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
