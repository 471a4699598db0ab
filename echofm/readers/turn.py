"""Turned and mirrored pictures: by the display matrix of a video, or by a tag of degrees."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Turn:
    """How a stored picture is shown: rows and columns exchanged first, then each mirrored."""

    is_swapped: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False

    def of(self, picture_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture as it is to be shown."""
        if not (self.is_swapped or self.mirror_rows or self.mirror_columns):
            return picture_HWC
        shown = picture_HWC.swapaxes(0, 1) if self.is_swapped else picture_HWC
        return np.ascontiguousarray(shown[:: -1 if self.mirror_rows else 1, :: -1 if self.mirror_columns else 1])


def turn_of(frame: av.VideoFrame, tags: dict[str, str]) -> Turn:
    """By the matrix that comes with the first frame, else by the stream's tag `rotate` (degrees clockwise)."""
    for data in cast(Any, frame).side_data:
        if data.type.name == "DISPLAYMATRIX":
            return by_matrix(*(struct.unpack_from("=9i", bytes(data))[place] for place in (0, 1, 3, 4)))
    degrees = next((value for name, value in tags.items() if name.lower() == "rotate"), "0")
    try:
        quarters = round(float(degrees) / 90) % 4
    except (ValueError, OverflowError):
        return Turn()
    return by_matrix(*((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))[quarters])


def by_matrix(a: int, b: int, c: int, d: int) -> Turn:
    """Of the matrix that takes a stored (column p, row q) to the shown column a p + c q and row b p + d q.

    An angle between the quarters, which no recorder writes, counts as the nearest one.
    """
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(mirror_rows=d < 0, mirror_columns=a < 0)
    return Turn(is_swapped=True, mirror_rows=b < 0, mirror_columns=c < 0)
