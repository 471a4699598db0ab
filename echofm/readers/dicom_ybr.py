"""Uncompressed colour whose header tells a sampling that its length belies: left over from before decompression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

_LOOKED_AT = 1_000_000
# How near to 128, which is no colour, most chroma samples of an echo lie.
_NEAR_GREY = 8


def mend_subsampling(data_set: Dataset, frames: int) -> None:
    """Name the photometric interpretation by the bytes that are there: YBR_FULL_422 has two a pixel, not three."""
    photometric = str(data_set.get("PhotometricInterpretation", ""))
    pixels = frames * int(data_set.get("Rows") or 0) * int(data_set.get("Columns") or 0)
    stored = data_set.get("PixelData") or b""
    if photometric == "YBR_FULL_422" and len(stored) >= 3 * pixels > 0:
        data_set.PhotometricInterpretation = "YBR_FULL" if _is_ybr(data_set, stored, pixels // frames) else "RGB"


def _is_ybr(data_set: Dataset, stored: bytes, frame_pixels: int) -> bool:
    """Whether three samples are luma and chroma: an echo is mostly grey, and its chroma then 128."""
    if int(data_set.get("PlanarConfiguration") or 0) == 1:
        chroma = np.frombuffer(stored, np.uint8, 2 * frame_pixels, offset=frame_pixels)
    else:
        chroma = np.frombuffer(stored, np.uint8, 3 * min(frame_pixels, _LOOKED_AT)).reshape(-1, 3)[:, 1:]
    return bool((np.abs(chroma.astype(np.int16) - 128) <= _NEAR_GREY).mean() > 0.5)
