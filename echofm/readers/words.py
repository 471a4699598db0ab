"""Words and marks that a fan includes: apart from the echo, and across the fan's edge or bright and still."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.evidence import Evidence

Mask = npt.NDArray[np.bool_]

_SHOWS = 0.5
# Part of something apart from the echo that lies outside of the fan: it is no echo.
_OUTSIDE = 0.1
# A mark in a cine changes in no more than this part of its cells, takes no more than this part of the fan, and lies so
# near to the fan's edge, as a part of the screen: a ruler's digits lie in the corner that a display cuts.
_CHANGES, _SMALL, _NEAR_EDGE = 0.1, 0.003, 0.04


def words_in(evidence: Evidence, inside_HW: Mask) -> Mask:
    """Cells to be taken out of a fan (H, W); a cell may lie across its edge."""
    words_HW = _apart(evidence.dimmest >= _SHOWS, inside_HW, evidence, crossing=True)
    if not evidence.is_still:
        words_HW |= _apart(evidence.bright >= _SHOWS, inside_HW, evidence, crossing=False)
    return words_HW


def _apart(shows_HW: Mask, inside_HW: Mask, evidence: Evidence, *, crossing: bool) -> Mask:
    """What is apart from the largest connected part within the fan: across its edge, or small and still."""
    from scipy import ndimage

    labels_HW, count = ndimage.label(shows_HW)
    sizes = np.bincount(labels_HW.ravel(), minlength=count + 1)
    within = np.bincount(labels_HW[inside_HW], minlength=count + 1)
    if crossing:
        is_word = sizes - within > _OUTSIDE * sizes
    else:
        changing = np.bincount(labels_HW.ravel(), (evidence.change >= _SHOWS).ravel(), minlength=count + 1)
        deep_HW = ndimage.distance_transform_edt(inside_HW) > max(2.0, _NEAR_EDGE * min(inside_HW.shape))
        deep = np.bincount(labels_HW[deep_HW], minlength=count + 1)
        is_word = (changing <= _CHANGES * sizes) & (sizes <= _SMALL * inside_HW.sum()) & (deep == 0)
    # The rim of a word beside the fan may lie within it.
    is_word &= (within > 0) | crossing
    is_word[[0, int(within[1:].argmax()) + 1 if count else 0]] = False
    # Their anti-aliased rim too.
    return ndimage.binary_dilation(is_word[labels_HW])
