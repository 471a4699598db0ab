"""The fan of a clip: the one whose flanks are seen best in any map of its echo, completed where the image is dark."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from echofm.fan import Fan
from echofm.readers.display_cut import display_window
from echofm.readers.evidence import Echo, Evidence
from echofm.readers.fan_edges import Flanks, far_arc_seen, mirrored, with_edges, with_flanks, with_radii
from echofm.readers.fan_search import search_fan

# Sum of both flanks' seen shares from which on no further map is looked at.
_CLEAR = 1.5
# A flank seen so well is trusted to tell where its dark twin is, which is seen no more than that.
_STRONG, _WEAK = 0.6, 0.45
# The rows from the first echo on in which shadows are few: a flank that ends in one is seen there.
# Short edges tell a little less.
_NEAR_FIELD, _SHORTER = 0.3, 0.9
# By so much less the mirrored flank is opened, as it is a guess.
_GUESS_RAD = np.radians(2)
# The far arc of the dimmest map is believed where so much of it is seen.
_ARC_SEEN = 0.4
# The dimmest rim of an echo may lie so many pixels outside of what a map showed.
_RIM_PIXELS = 1.5


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
    rows, columns = display_window(evidence.change_HW)
    best: Fit | None = None
    for echo_HW in evidence.maps:
        fit = _fit(np.ascontiguousarray(echo_HW[rows, columns]))
        if best is None or fit.clarity > best.clarity:
            best = fit
        if best.clarity >= _CLEAR:
            break
    assert best is not None, "there is always a map"
    fan = _completed(np.ascontiguousarray(evidence.dimmest[rows, columns]), best, rim=_RIM_PIXELS / evidence.step)
    fan = _off_the_cut(fan.placed(row=rows.start, column=columns.start), rows, columns, evidence.dimmest.shape)
    flanks = replace(best.flanks, fan=fan)
    whole = np.zeros_like(evidence.maps[0])
    whole[rows, columns] = best.echo_HW
    return Fit(flanks=flanks, echo_HW=whole)


def _off_the_cut(fan: Fan, rows: slice, columns: slice, shape: tuple[int, ...]) -> Fan:
    """The fan without half a cell where the display cuts it: the digits of a ruler may begin right there."""
    return replace(
        fan,
        left=fan.left + 0.5 * (columns.start > 0),
        right=fan.right - 0.5 * (columns.stop < shape[1]),
        bottom=fan.bottom - 0.5 * (rows.stop < shape[0]),
    )


def _fit(echo_HW: Echo) -> Fit:
    """The best fan of one map: of all of it, or of its near field where more of the flanks is seen."""
    fit = _fit_alike(echo_HW)
    if fit.clarity >= _CLEAR:
        return fit
    top = int((echo_HW >= 0.5).any(axis=1).argmax())
    near_HW = echo_HW[: top + round(_NEAR_FIELD * (len(echo_HW) - top))]
    near = _fit_alike(near_HW).flanks
    near = replace(near, first=_SHORTER * near.first, last=_SHORTER * near.last)
    if min(near.first, near.last) < _STRONG or near.first + near.last <= fit.clarity:
        return fit
    fan = with_radii(echo_HW, replace(near.fan, bottom=len(echo_HW) - 0.5))
    return Fit(flanks=replace(near, fan=fan), echo_HW=echo_HW)


def _fit_alike(echo_HW: Echo) -> Fit:
    """The best fan of one map, or the symmetrical one of its stronger flank where that is seen better."""
    flanks = with_edges(echo_HW, search_fan(echo_HW))
    if max(flanks.first, flanks.last) >= _STRONG and min(flanks.first, flanks.last) <= _WEAK:
        strong = "first_rad" if flanks.first > flanks.last else "last_rad"
        other = with_edges(echo_HW, mirrored(echo_HW, flanks.fan, strong=strong))
        if other.first + other.last > flanks.first + flanks.last:
            flanks = other
    return Fit(flanks=flanks, echo_HW=echo_HW)


def _completed(dimmest_HW: Echo, fit: Fit, *, rim: float) -> Fan:
    """The fan with its dim rim, its dark flank and its dark far field."""
    flanks = fit.flanks
    fan = _likened(flanks) if max(flanks.first, flanks.last) >= _STRONG else flanks.fan
    # A mirrored flank is a guess, and stays where it is.
    known = [which for which in ("first_rad", "last_rad") if getattr(fan, which) == getattr(flanks.fan, which)]
    fan = with_flanks(dimmest_HW, fan, known, reach=rim)
    fan = with_radii(fit.echo_HW, fan)
    deeper = with_radii(dimmest_HW, fan)
    return deeper if deeper.far > fan.far and far_arc_seen(dimmest_HW, deeper) >= _ARC_SEEN else fan


def _likened(flanks: Flanks) -> Fan:
    """The fan opened as far to its weak side as to its strong one: a flank in a shadow mirrors the other."""
    fan = flanks.fan
    if flanks.first > _WEAK >= flanks.last:
        return replace(fan, last_rad=max(fan.last_rad, -fan.first_rad - _GUESS_RAD))
    if flanks.last > _WEAK >= flanks.first:
        return replace(fan, first_rad=min(fan.first_rad, -fan.last_rad + _GUESS_RAD))
    return fan
