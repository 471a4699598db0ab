"""One side of a ragged blob, and the straight lines that most of it lies on.

The blob is what an ultrasound screen shows to be moving; its outline is dented by shadow and bulged by whatever text
touches it. A straight edge is what scan conversion draws, so it is found as the line on which most of the outline
lies, and the bulges are outvoted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.readers.fan import Edge

Floats = npt.NDArray[np.float64]

# An outline point outside a line or arc counts this much against the points on it.
BEYOND_WEIGHT = 0.7
# Edges further from the vertical do not occur: the widest phased arrays open to about 120 degrees.
_WIDEST_EDGE_DEGREES = 65.0
# A steered sector's inner edge may lean past the vertical by this much.
_LEAN_DEGREES = 12.0
# Outline points of which each pair is tried as an edge.
_HYPOTHESES = 64
# Part of the rows on which a line must lie to be seen as an edge.
_SEEN = 0.15
# Part of the rows on which the display must end the blob straight to be believed.
_CUT = 0.12


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

    def straight_cut(self) -> float:
        """The column at which the display ends the blob in a straight upright line; -inf where it does not."""
        values, counts = np.unique(self.columns, return_counts=True)
        on = np.array([counts[np.abs(values - value) <= self.tolerance].sum() for value in values])
        beyond = np.array([counts[values < value - self.tolerance].sum() for value in values])
        best = int((on - BEYOND_WEIGHT * beyond).argmax())
        is_cut = on[best] >= _CUT * len(self.columns) and beyond[best] <= 0.4 * on[best]
        return float(values[best]) if is_cut else -np.inf

    def _distance(self, slopes: Floats, offsets: Floats) -> Floats:
        """Signed distance (lines, rows) of each outline point to the right of each line."""
        return (self.columns - offsets[:, None] - slopes[:, None] * self.rows) / np.hypot(1.0, slopes)[:, None]

    def _score(self, slopes: Floats, offsets: Floats) -> Floats:
        distance = self._distance(slopes, offsets)
        on = (np.abs(distance) <= self.tolerance) & (self.columns > 1)
        return on.sum(axis=1) - BEYOND_WEIGHT * (distance < -self.tolerance).sum(axis=1)

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
