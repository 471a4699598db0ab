"""The fan that fits a ragged blob best: edges and arcs on its outline, its area the blob's."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.readers.fan import Fan, Mask
from echofm.readers.outline import BEYOND_WEIGHT, Outline

Floats = npt.NDArray[np.float64]

# Rays from the apex on which the arcs are looked for.
_RAYS = 72


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
    columns = np.flatnonzero(blob.any(axis=0))
    below = Outline(rows=columns, columns=blob[::-1, columns].argmax(axis=0), tolerance=tolerance)
    leftmost, rightmost = left.straight_cut(), width - 1 - right.straight_cut()
    lowest = len(blob) - 1 - below.straight_cut()
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
    best = int((on.sum(axis=1) - BEYOND_WEIGHT * beyond).argmax())
    return float(np.median(candidates[on[best]])), int(on[best].sum())
