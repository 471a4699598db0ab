"""Words and marks beside a fan or within: apart from the echo and across its edge, bright and still, or changing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.readers.evidence import ONE_GREY, Echo, Evidence

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_SHOWS = 0.5
# Part of something apart from the echo that lies outside of the fan: it is no echo.
_OUTSIDE = 0.1
# A mark in a cine changes in no more than this part of its cells, takes no more than this part of the fan, and lies so
# near to the fan's edge, as a part of the screen: a ruler's digits lie in the corner that a display cuts.
_CHANGES, _SMALL, _NEAR_EDGE = 0.1, 0.003, 0.04
# Digits that change take so many cells, so many of them of one grey.
_LEAST_CELLS, _OF_ONE_GREY = 24, 0.7


def words_in(evidence: Evidence, inside_HW: Mask) -> Mask:
    """Cells to be taken out of a fan (H, W); a cell may lie across its edge."""
    parts = _Parts.of(evidence.dimmest >= _SHOWS, inside_HW)
    words_HW = parts.where(parts.sizes - parts.within > _OUTSIDE * parts.sizes)
    if evidence.is_still:
        return words_HW
    bright = _Parts.of(evidence.bright >= _SHOWS, inside_HW)
    # The rim of a word beside the fan may lie within it.
    return words_HW | bright.where((bright.within > 0) & _small_and_still(bright, evidence, inside_HW))


def clocks_in(flickers: Echo) -> list[Mask]:
    """Each area (H, W) of digits that change: one grey all over, as no echo is that comes and goes."""
    from scipy import ndimage

    square = np.ones((3, 3), bool)
    shows_HW = ndimage.binary_opening(ndimage.binary_closing(flickers > 0, square), square)
    labels_HW, _ = ndimage.label(shows_HW)
    found = []
    for number, where in enumerate(ndimage.find_objects(labels_HW), start=1):
        area_HW = labels_HW[where] == number
        greys = flickers[where][area_HW & (flickers[where] > 0)]
        if area_HW.sum() >= _LEAST_CELLS and (np.abs(greys - np.median(greys)) <= ONE_GREY).mean() >= _OF_ONE_GREY:
            found.append(labels_HW == number)
    return found


def apart_in(evidence: Evidence, inside_HW: Mask) -> Mask:
    """What is apart from the largest connected part within a fan."""
    parts = _Parts.of(evidence.dimmest >= _SHOWS, inside_HW)
    return parts.where(np.ones(len(parts.sizes), bool), rim=0)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """Connected parts of a map: labels_HW, and by label their sizes, cells within the fan."""

    labels_HW: npt.NDArray[np.int32]
    sizes: Counts
    within: Counts

    @classmethod
    def of(cls, shows_HW: Mask, inside_HW: Mask) -> _Parts:
        from scipy import ndimage

        labels_HW, count = ndimage.label(shows_HW)
        return cls(
            labels_HW=labels_HW,
            sizes=np.bincount(labels_HW.ravel(), minlength=count + 1),
            within=np.bincount(labels_HW[inside_HW], minlength=count + 1),
        )

    def count(self, where_HW: Mask) -> Counts:
        """Cells of each part that lie in a mask."""
        return np.bincount(self.labels_HW[where_HW], minlength=len(self.sizes))

    def where(self, chosen: Mask, *, rim: int = 1) -> Mask:
        """The chosen parts but for the largest within the fan, which is the echo; their anti-aliased rim too."""
        from scipy import ndimage

        chosen = chosen.copy()
        chosen[0] = False
        if len(chosen) > 1:
            chosen[int(self.within[1:].argmax()) + 1] = False
        chosen_HW = chosen[self.labels_HW]
        return ndimage.binary_dilation(chosen_HW, iterations=rim) if rim else chosen_HW


def _small_and_still(parts: _Parts, evidence: Evidence, inside_HW: Mask) -> Mask:
    from scipy import ndimage

    changing = parts.count(evidence.change >= _SHOWS)
    deep_HW = ndimage.distance_transform_edt(inside_HW) > max(2.0, _NEAR_EDGE * min(inside_HW.shape))
    is_small = parts.sizes <= _SMALL * inside_HW.sum()
    return (changing <= _CHANGES * parts.sizes) & is_small & (parts.count(deep_HW) == 0)
