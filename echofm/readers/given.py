"""Sectors that need no search: one's own mask, and the images of public sets that their publisher has cut already."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.evidence import background, evidence_of, looked_at, robust_range
from echofm.readers.refused import Refused
from echofm.readers.sector import Sector, find_sector, grey_frames, lit_outside
from echofm.readers.square import stretched_mask

Mask = npt.NDArray[np.bool_]
# A mark beside a fan: grey levels above the screen's of it all and of its brightest pixel, how much of that it changes
# at most, how much of the picture it is at most, and the rim of codec noise around it, as a part of the shorter side.
# On five real clips what a codec leaves at the fan's edge stays below 40, the marks are above 90.
_LIT, _BRIGHTEST, _CHANGES, _LARGEST_MARK, _RIM = 10, 60, 1 / 3, 0.01, 1 / 40

_ROUND = np.ones((3, 3), bool)


def masked_by_hand(decoded: Decoded, mask_HW: Mask) -> Sector:
    """The user's own sector, of the frames' size or, where pixels were made square, of the file's."""
    mask_HW = stretched_mask(mask_HW[None].astype(np.uint8), *decoded.frames_TCHW.shape[2:])[0] > 0
    evidence = evidence_of(_some_grey(decoded))
    rows, columns = evidence.change.shape
    cells_HW = mask_HW[:: evidence.step, :: evidence.step][:rows, :columns]
    return Sector(mask_HW=mask_HW, fan=None, lit_outside=lit_outside(evidence.change, cells_HW))


def cut_by_publisher(decoded: Decoded) -> Sector:
    """The whole picture, but for small marks that stand still beside the fan, or beside most of what is lit."""
    from scipy import ndimage

    grey_THW = _some_grey(decoded)
    height, width = shape = grey_THW.shape[1:]
    try:
        fan = find_sector(decoded).fan
    except Refused:
        fan = None
    above_HW = grey_THW.mean(axis=0, dtype=np.float32)
    above_HW -= background(above_HW)
    parts_HW, count = ndimage.label(above_HW >= _LIT if fan is None else (above_HW >= _LIT) & ~fan.mask(shape), _ROUND)
    each = np.arange(count + 1)
    brightest, changes = ndimage.maximum(above_HW, parts_HW, each), ndimage.mean(robust_range(grey_THW), parts_HW, each)
    is_mark = (brightest >= _BRIGHTEST) & (changes <= _CHANGES * brightest)
    is_mark &= np.bincount(parts_HW.ravel()) <= _LARGEST_MARK * height * width
    is_mark[0] = False
    rim = max(1, round(min(shape) * _RIM))
    marks_HW = ndimage.binary_dilation(is_mark[parts_HW], _ROUND, iterations=rim)
    mask_HW = ~marks_HW if fan is None else ~marks_HW | fan.mask(shape)
    return Sector(mask_HW=mask_HW, fan=fan, lit_outside=0.0)


def _some_grey(decoded: Decoded) -> npt.NDArray[np.uint8]:
    return grey_frames(decoded.frames_TCHW[looked_at(len(decoded.frames_TCHW))])
