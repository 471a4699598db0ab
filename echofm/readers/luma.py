"""The one rule by which colour becomes grey, for every reader and every codec."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def luma(rgb_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey (H, W) uint8 of full-range RGB (H, W, 3) uint8 by BT.601 luma in 16-bit fixed point.

    Y = (19595 R + 38470 G + 7471 B + 32768) >> 16, the weights .299, .587, .114 times 65536
    (Rec. ITU-R BT.601-7, 2.5.1), rounded to nearest; the weights sum to 65536, so grey stays what it was.
    Limited-range YUV is expanded to full-range RGB by the decoder, so black is 0 and white 255 here.
    """
    from PIL import Image

    # Pillow's conversion to "L" is this formula, in C; tests hold it to that.
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb_HWC)).convert("L"))
