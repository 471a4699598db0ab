"""Grey values of any type as 8 bits, one scale for a whole clip."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.readers.refused import Refused


def to_grey(values_THW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """uint8 of the same shape.

    Values within 0 to 255 stay (rounded), unless they are fractions within 0 to 1; others are scaled from the clip's
    least to its largest value. Refused where a value is not finite.
    """
    if values_THW.dtype == np.uint8:
        return values_THW
    low, high = float(values_THW.min()), float(values_THW.max())
    if not np.isfinite([low, high]).all():
        raise Refused("a pixel's value is not a finite number")
    fractions = values_THW.dtype.kind == "f" and high <= 1
    if low < 0 or high > 255 or fractions:
        grey = np.empty(values_THW.shape, np.uint8)
        for index, frame in enumerate(values_THW):  # one frame at a time, as floats take eight times the memory
            grey[index] = np.rint((frame.astype(np.float64) - low) * (255 / max(high - low, 1e-12)))
        return grey
    return np.rint(values_THW).astype(np.uint8)
