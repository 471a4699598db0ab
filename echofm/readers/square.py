"""Square pixels: a heart has its shape whatever the spacing at which a file stores it.

Scanners and video tools store pixels that are wider than high, or the reverse. Everything after the readers, the fan's
search first of all, takes a pixel for a square, so frames are stretched along the coarser axis as soon as decoded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, Region
from echofm.readers.limits import Limits

# A difference that no eye and no measurement sees; rounding in headers makes as much.
_SQUARE_ENOUGH = 1.02
# Beyond this a header is wrong.
_MOST = 6.0


def squared(decoded: Decoded, *, limits: Limits) -> Decoded:
    """The same with square pixels, by the spacing, else by `pixel_aspect`; as it is where they are square within 2 %.

    Frames are interpolated linearly along one axis (Pillow's BILINEAR). Refused where that makes them too large.
    """
    spacing, aspect = decoded.pixel_spacing_mm, decoded.pixel_aspect
    if spacing is not None:
        aspect = spacing[1] / spacing[0]
    if not 1 / _MOST <= aspect <= _MOST:
        return replace(decoded, pixel_spacing_mm=None)
    if 1 / _SQUARE_ENOUGH <= aspect <= _SQUARE_ENOUGH:
        return decoded
    frames, channels, stored_height, stored_width = decoded.frames_TCHW.shape
    height = stored_height if aspect > 1 else round(stored_height / aspect)
    width = round(stored_width * aspect) if aspect > 1 else stored_width
    limits.check_clip(frames=frames, height=height, width=width, channels=channels)
    tall, wide = height / stored_height, width / stored_width
    frames_TCHW = np.empty((frames, channels, height, width), np.uint8)
    for stored_CHW, frame_CHW in zip(decoded.frames_TCHW, frames_TCHW):
        for stored_HW, frame_HW in zip(stored_CHW, frame_CHW):
            frame_HW[:] = _stretched(stored_HW, height, width)
    return replace(
        decoded,
        frames_TCHW=frames_TCHW,
        chroma_HW=None if decoded.chroma_HW is None else _stretched(decoded.chroma_HW, height, width),
        pixel_spacing_mm=None if spacing is None else (spacing[0] / tall, spacing[1] / wide),
        pixel_aspect=1.0,
        regions=tuple(_region(region, tall, wide) for region in decoded.regions),
    )


def stretched_mask(mask_THW: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Classes at another size, each from the nearest pixel."""
    rows = np.minimum((np.arange(height) + 0.5) * mask_THW.shape[1] / height, mask_THW.shape[1] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) * mask_THW.shape[2] / width, mask_THW.shape[2] - 1).astype(int)
    return mask_THW[:, rows[:, None], columns]


def _stretched(plane_HW: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(plane_HW).resize((width, height), Image.Resampling.BILINEAR))


def _region(region: Region, tall: float, wide: float) -> Region:
    return replace(
        region,
        top=int(region.top * tall),
        bottom=int(region.bottom * tall),
        left=int(region.left * wide),
        right=int(region.right * wide),
    )
