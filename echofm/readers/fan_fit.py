"""The fan of a clip: the one whose flanks are seen best in any map of its echo, completed where the image is dark."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from echofm.fan import Fan
from echofm.readers.display_cut import cut_by_display, display_window
from echofm.readers.evidence import Echo, Evidence
from echofm.readers.fan_edges import (
    Flanks,
    clear_arc,
    far_arc_seen,
    first_gap,
    mirrored,
    with_edges,
    with_face,
    with_flanks,
    with_radii,
)
from echofm.readers.fan_search import search_fan

# Sum of both flanks' seen shares from which on no further map is looked at.
_CLEAR = 1.5
# A flank seen so well is trusted to tell where the dark other one is, which is seen no more than that.
_STRONG, _WEAK = 0.6, 0.55
# The rows from the first echo on in which shadows are few: a flank that ends in one is seen there.
# Short edges tell a little less. Sought in so many maps, one of the mean and one of change.
_NEAR_FIELD, _SHORTER, _NEAR_MAPS = 0.3, 0.9, 2
# By so much less the mirrored flank is opened, as it is a guess.
_GUESS_RAD = np.radians(2)
# The far arc of the dimmest map is believed where so much of it is seen.
_ARC_SEEN = 0.4
# In small images, where a codec's blocks are large against an edge, its dim rim is sought so many cells further out.
_RIM = 2.5


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fan in cells of the evidence, the map that showed it best, and how much of its flanks is seen there, 0 to 1."""

    flanks: Flanks
    echo_HW: Echo

    @property
    def clarity(self) -> float:
        """Sum of both flanks' shares."""
        return self.flanks.first + self.flanks.last


def fit_fan(evidence: Evidence) -> Fit:
    """The best fan, apex up; how far it can be trusted is for the caller to judge."""
    rows, columns = display_window(evidence.change)
    shown = evidence.within(rows, columns)
    best = _fit(shown.maps[0])
    for echo_HW in shown.maps[1:]:
        if best.clarity < _CLEAR:
            best = max(best, _fit(echo_HW), key=lambda fit: fit.clarity)
    for echo_HW in shown.maps[:_NEAR_MAPS]:
        if best.clarity < _CLEAR:
            best = _of_near_field(echo_HW, best)
    fan = _completed(shown, best).placed(row=rows.start, column=columns.start)
    fan = _off_the_cut(fan, rows, columns, evidence.dimmest.shape)
    whole_HW = np.zeros_like(evidence.dimmest)
    whole_HW[rows, columns] = best.echo_HW
    return Fit(flanks=replace(best.flanks, fan=fan), echo_HW=whole_HW)


def _off_the_cut(fan: Fan, rows: slice, columns: slice, shape: tuple[int, ...]) -> Fan:
    """The fan without half a cell where the display cuts it: the digits of a ruler may begin right there."""
    return replace(
        fan,
        left=fan.left + 0.5 * (columns.start > 0),
        right=fan.right - 0.5 * (columns.stop < shape[1]),
        bottom=fan.bottom - 0.5 * (rows.stop < shape[0]),
    )


def _fit(echo_HW: Echo) -> Fit:
    """The best fan of one map, or the symmetrical one of its stronger flank where that is seen better."""
    flanks = with_edges(echo_HW, search_fan(echo_HW))
    if max(flanks.first, flanks.last) >= _STRONG and min(flanks.first, flanks.last) <= _WEAK:
        strong = "first_rad" if flanks.first > flanks.last else "last_rad"
        other = with_edges(echo_HW, mirrored(echo_HW, flanks.fan, strong=strong))
        if other.first + other.last > flanks.first + flanks.last:
            flanks = other
    return Fit(flanks=flanks, echo_HW=echo_HW)


def _of_near_field(echo_HW: Echo, best: Fit) -> Fit:
    """The fan of a map's near field where more of its flanks is seen than in the best fit so far."""
    top = int((echo_HW >= 0.5).any(axis=1).argmax())
    near = _fit(echo_HW[: top + round(_NEAR_FIELD * (len(echo_HW) - top))]).flanks
    near = replace(near, first=_SHORTER * near.first, last=_SHORTER * near.last)
    if min(near.first, near.last) < _STRONG or near.first + near.last <= best.clarity:
        return best
    fan = with_radii(echo_HW, replace(near.fan, bottom=len(echo_HW) - 0.5))
    return Fit(flanks=replace(near, fan=fan), echo_HW=echo_HW)


def _completed(evidence: Evidence, fit: Fit) -> Fan:
    """The fan with its dim rim, its dark flank and its dark far field."""
    fan = _likened(fit)
    # A mirrored flank is a guess, and stays where it is.
    if evidence.step == 1 and fan is fit.flanks.fan:
        fan = with_flanks(evidence.dim, fan, ("first_rad", "last_rad"), reach=_RIM)
    fan = with_radii(fit.echo_HW, fan)
    deeper = with_radii(evidence.dim, fan)
    fan = with_face(evidence.dim, fan)
    if deeper.far > fan.far and far_arc_seen(evidence.dim, deeper) >= _ARC_SEEN:
        fan = replace(fan, far=deeper.far)
    dimmest_HW = evidence.dimmest
    fan = replace(fan, far=min(fan.far, first_gap(dimmest_HW, fan), clear_arc(dimmest_HW, fan)))
    return cut_by_display(dimmest_HW, fan)


def _likened(fit: Fit) -> Fan:
    """The fan opened as far to its weak side as to its strong one: a flank in a shadow mirrors the other."""
    fan, first, last = fit.flanks.fan, fit.flanks.first, fit.flanks.last
    if max(first, last) < _STRONG or min(first, last) > _WEAK:
        return fan
    strong, weak, outward = ("first_rad", "last_rad", 1) if first > last else ("last_rad", "first_rad", -1)
    guess = mirrored(fit.echo_HW, fan, strong=strong)
    opened = replace(guess, **{weak: getattr(guess, weak) - outward * _GUESS_RAD})
    # Compared where they are half way down.
    columns = [one.apex_column + 0.5 * fan.far * np.tan(getattr(one, weak)) for one in (opened, fan)]
    columns[0] -= (opened.apex_row - fan.apex_row) * np.tan(getattr(opened, weak))
    return opened if outward * (columns[0] - columns[1]) > 0 else fan
