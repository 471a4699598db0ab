"""Colour Doppler or greyscale, where the header does not tell: by the pixels inside the sector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Colour flow is saturated; tinted grey maps and chroma noise of lossy codecs stay below this spread of R, G and B.
_COLOURED = 60
_COLOURED_FRACTION = 0.005


def kind_by_pixels(
    frames_TCHW: npt.NDArray[np.uint8], chroma_HW: npt.NDArray[np.uint8] | None, sector_HW: npt.NDArray[np.bool_]
) -> str:
    """ "still", "colour_doppler" or "bmode"."""
    if len(frames_TCHW) == 1:
        return "still"
    coloured = chroma_HW is not None and (chroma_HW[sector_HW] > _COLOURED).mean() > _COLOURED_FRACTION
    return "colour_doppler" if coloured else "bmode"
