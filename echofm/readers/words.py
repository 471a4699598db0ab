"""Words and marks that a fan includes: apart from the echo, and across its edge, bright and still, or changing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.readers.evidence import ONE_GREY, Evidence

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_SHOWS = 0.5
# Part of something apart from the echo that lies outside of the fan: it is no echo.
_OUTSIDE = 0.1
# A mark in a cine changes in no more than this part of its cells, takes no more than this part of the fan, and lies so
# near to the fan's edge, as a part of the screen: a ruler's digits lie in the corner that a display cuts.
_CHANGES, _SMALL, _NEAR_EDGE = 0.1, 0.003, 0.04
# Digits that change: bright, nearly all of their cells change, most reach one grey and often show it. Speckle reaches
# its peak once.
_BRIGHT, _CHANGING, _OF_ONE_GREY, _AT_PEAK = 32, 0.6, 0.6, 0.3


def words_in(evidence: Evidence, inside_HW: Mask) -> Mask:
    """Cells to be taken out of a fan (H, W); a cell may lie across its edge."""
    parts = _Parts.of(evidence.dimmest >= _SHOWS, inside_HW)
    words_HW = parts.where(parts.sizes - parts.within > _OUTSIDE * parts.sizes)
    if evidence.is_still:
        return words_HW
    bright = _Parts.of(evidence.bright >= _SHOWS, inside_HW)
    # The rim of a word beside the fan may lie within it.
    return words_HW | bright.where((bright.within > 0) & _small_and_still(bright, evidence, inside_HW))


def clocks_in(evidence: Evidence, inside_HW: Mask) -> Mask:
    """Cells (H, W) of digits that change, wholly or in part within a fan, which they may have widened."""
    if evidence.is_still:
        return np.zeros_like(inside_HW)
    parts = _Parts.of(evidence.dimmest >= _SHOWS, inside_HW)
    return parts.where((parts.within > 0) & _of_one_ink(parts, evidence))


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

    def where(self, chosen: Mask) -> Mask:
        """The chosen parts but for the largest within the fan, which is the echo; their anti-aliased rim too."""
        from scipy import ndimage

        chosen = chosen.copy()
        chosen[0] = False
        if len(chosen) > 1:
            chosen[int(self.within[1:].argmax()) + 1] = False
        return ndimage.binary_dilation(chosen[self.labels_HW])


def _small_and_still(parts: _Parts, evidence: Evidence, inside_HW: Mask) -> Mask:
    from scipy import ndimage

    changing = parts.count(evidence.change >= _SHOWS)
    deep_HW = ndimage.distance_transform_edt(inside_HW) > max(2.0, _NEAR_EDGE * min(inside_HW.shape))
    is_small = parts.sizes <= _SMALL * inside_HW.sum()
    return (changing <= _CHANGES * parts.sizes) & is_small & (parts.count(deep_HW) == 0)


def _of_one_ink(parts: _Parts, evidence: Evidence) -> Mask:
    from scipy import ndimage

    every = np.arange(len(parts.sizes))
    ink = np.asarray(ndimage.median(evidence.peak, parts.labels_HW, every))
    of_ink_HW = np.abs(evidence.peak - ink[parts.labels_HW]) <= ONE_GREY
    changes = parts.count(evidence.change >= _SHOWS) >= _CHANGING * parts.sizes
    at_peak = ndimage.mean(evidence.peaked, parts.labels_HW, every) >= _AT_PEAK
    return (ink >= _BRIGHT) & changes & at_peak & (parts.count(of_ink_HW) >= _OF_ONE_GREY * parts.sizes)
