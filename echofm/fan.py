"""The shape of an ultrasound sector on a screen: a part of a ring between two beams, cut where the display ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Fan:
    """Where an image's beams lie, in pixels: rows grow downwards, whole numbers are pixel centres.

    apex_row, apex_column: where the beams meet; outside the image for a curved array.
    first_rad, last_rad: the outermost beams' angles from straight down, towards greater columns; first_rad < last_rad.
        A fan that hangs upside down has angles about pi.
    near, far: radii about the apex between which there is an image.
    top, left, bottom, right: the rows and columns that the display shows.
    """

    # Strict where it is read back from a shard.
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    apex_row: float
    apex_column: float
    first_rad: float
    last_rad: float
    near: float
    far: float
    top: float
    left: float
    bottom: float
    right: float

    def mask(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """True on the pixels (H, W) whose centres lie in the fan."""
        row, column = np.ogrid[: shape[0], : shape[1]]
        down, across = np.float32(row - self.apex_row), np.float32(column - self.apex_column)
        inside = across * np.cos(self.first_rad) >= down * np.sin(self.first_rad)
        inside &= across * np.cos(self.last_rad) <= down * np.sin(self.last_rad)
        square = across * across + down * down
        inside &= (square >= self.near**2) & (square <= self.far**2)
        inside &= (row >= self.top) & (row <= self.bottom) & (column >= self.left) & (column <= self.right)
        return inside

    def placed(self, *, scale: float = 1.0, row: float = 0.0, column: float = 0.0) -> Fan:
        """The same fan after the image is moved by whole pixels (row, column) and then resized by `scale`."""

        def at(value: float, shift: float) -> float:
            return (value + shift + 0.5) * scale - 0.5

        return replace(
            self,
            apex_row=at(self.apex_row, row),
            apex_column=at(self.apex_column, column),
            near=self.near * scale,
            far=self.far * scale,
            top=at(self.top, row),
            left=at(self.left, column),
            bottom=at(self.bottom, row),
            right=at(self.right, column),
        )

    def upside_down(self, height: int) -> Fan:
        """The same fan in the image of `height` rows read from bottom to top."""
        return replace(
            self,
            apex_row=height - 1 - self.apex_row,
            first_rad=np.pi - self.last_rad,
            last_rad=np.pi - self.first_rad,
            top=height - 1 - self.bottom,
            bottom=height - 1 - self.top,
        )


def beams(fan: Fan | None, sector_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(2, H, W) how deep each pixel lies, and across which beam: both 0 to 1 within the image.

    Where no fan is known beams run straight down the box of the sector, which may be empty.
    """
    row, column = np.mgrid[: sector_HW.shape[0], : sector_HW.shape[1]].astype(np.float32)
    if fan is not None:
        down, across = row - fan.apex_row, column - fan.apex_column
        depth = (np.hypot(down, across) - fan.near) / (fan.far - fan.near)
        middle, half = (fan.first_rad + fan.last_rad) / 2, (fan.last_rad - fan.first_rad) / 2
        # About the middle beam, so that a fan which hangs upside down has no jump.
        turned = (np.arctan2(across, down) - middle + np.pi) % (2 * np.pi) - np.pi
        angle = (turned / half + 1) / 2
    else:
        rows, columns = (np.flatnonzero(sector_HW.any(axis)) for axis in (1, 0))
        (top, bottom), (left, right) = ((x[0], x[-1]) if len(x) else (0, 1) for x in (rows, columns))
        depth, angle = (row - top) / max(bottom - top, 1), (column - left) / max(right - left, 1)
    return np.clip(np.stack([depth, angle]), 0, 1).astype(np.float32)
