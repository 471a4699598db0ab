"""conform: bring a clip as read to one size, one frame rate and one channel rule.

Shards and `echofm embed` call the same function, so that a file and its shard give the same embedding.
T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from echofm.clip import BACKGROUND, FRAME_FIELDS, NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.readers.luma import luma
from echofm.window import between, nearest_frames


def conform(
    clip: Clip, *, size: int | None = None, frame_rate_hz: float | None = None, channels: int | None = None
) -> Clip:
    """The clip at `size` x `size` pixels, `frame_rate_hz` and `channels`; None leaves that property as it is.

    Space: cut to the sector's bounding box, padded with zeros to a square, resized by an antialiased triangle filter
    (Pillow's BILINEAR, which is torch's `interpolate(mode="bilinear", antialias=True)`). Pixels keep their aspect.
    A clip that has the size already is not cut, so that conform(conform(x)) = conform(x).
    Time: the frame nearest to every k / frame_rate_hz; frames are repeated or dropped, never blended, because speckle
    does not survive blending. A clip of unknown times keeps its frames.
    Sector, fan, spacing and all that the clip holds of its frames follow: masks by the nearest pixel, displacement in
    pixels of the new size, from each kept frame to the next kept one.
    Raises EchofmError on a size or rate that is not positive.
    """
    if size is not None and size < 1:
        raise EchofmError(f"size {size} is not a positive number of pixels")
    if frame_rate_hz is not None and not 0 < frame_rate_hz <= 1000:
        raise EchofmError(f"frame rate {frame_rate_hz} Hz is not above 0 and at most 1000")
    if channels not in (None, 1, 3):
        raise EchofmError(f"{channels} channels: a clip has 1 (grey) or 3 (RGB)")
    clip = _with_channels(clip, channels)
    native_hz = clip.frame_rate_hz
    # The order changes nothing but the work: frames are dropped before they are resized, repeated after it.
    if frame_rate_hz is not None and native_hz is not None and frame_rate_hz > native_hz:
        return _at_rate(_at_size(clip, size), frame_rate_hz)
    return _at_size(_at_rate(clip, frame_rate_hz), size)


def placed_back(planes: npt.NDArray[np.float32], sector_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Planes (..., S, S) of a clip that `conform` brought to size S, in the pixels that it had; 0 where it was cut.

    sector_HW: of the clip before. Resized by the same triangle filter.
    """
    size = planes.shape[-1]
    if sector_HW.shape == (size, size):
        return planes
    square = _Square(*_bounding_box(sector_HW), size)
    row, column = square.offset
    found = np.zeros((*planes.shape[:-2], *sector_HW.shape), np.float32)
    inner = np.empty((*planes.shape[:-2], square.height, square.width), np.float32)
    for plane_SS, inner_HW in zip(planes.reshape(-1, size, size), inner.reshape(-1, *inner.shape[-2:])):
        wide = np.asarray(Image.fromarray(plane_SS).resize((square.side, square.side), Image.Resampling.BILINEAR))
        inner_HW[:] = wide[row : row + square.height, column : column + square.width]
    found[..., square.top : square.top + square.height, square.left : square.left + square.width] = inner
    return found


def grey_bt601(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """BT.601 luma of RGB frames by the readers' one rule (echofm.readers.luma); grey as it is. (T, 1, H, W)."""
    if frames_TCHW.shape[1] == 1:
        return frames_TCHW
    return np.stack([luma(np.moveaxis(frame_CHW, 0, 2))[None] for frame_CHW in frames_TCHW])


def _with_channels(clip: Clip, channels: int | None) -> Clip:
    if channels is None or clip.frames_TCHW.shape[1] == channels:
        return clip
    if channels == 1:
        return clip.replace(frames_TCHW=grey_bt601(clip.frames_TCHW))
    return clip.replace(frames_TCHW=np.repeat(clip.frames_TCHW, 3, axis=1))


def _at_rate(clip: Clip, frame_rate_hz: float | None) -> Clip:
    if clip.frame_time_s is None or frame_rate_hz is None:
        return clip
    time_s = clip.frame_time_s - clip.frame_time_s[0]
    n_frames = int(np.floor(time_s[-1] * frame_rate_hz + 1e-3)) + 1
    grid_s = np.arange(n_frames) / frame_rate_hz
    chosen = nearest_frames(time_s, grid_s)
    arrays = {name: array[chosen] for name in FRAME_FIELDS if (array := getattr(clip, name)) is not None}
    if clip.displacement_px_T2HW is not None:
        arrays["displacement_px_T2HW"] = between(clip.displacement_px_T2HW, chosen)
    return clip.replace(frame_time_s=grid_s, **arrays)


def _at_size(clip: Clip, size: int | None) -> Clip:
    if size is None or clip.sector_HW.shape == (size, size):
        return clip
    square = _Square(*_bounding_box(clip.sector_HW), size)
    side, spacing = square.side, clip.pixel_spacing_mm
    fan, scale = clip.fan, size / side
    row, column = square.offset[0] - square.top, square.offset[1] - square.left
    grey = {name: frames for name in ("paired_TCHW", "clean_TCHW") if (frames := getattr(clip, name)) is not None}
    return clip.replace(
        frames_TCHW=square.resized(clip.frames_TCHW),
        # Every pixel that the sector contributes to, so that all outside the new sector is zero as before.
        sector_HW=square.resized(np.uint8(255) * clip.sector_HW) > 0,
        fan=None if fan is None else fan.placed(scale=scale, row=row, column=column),
        pixel_spacing_mm=None if spacing is None else (spacing[0] * side / size, spacing[1] * side / size),
        mask_THW=None if clip.mask_THW is None else _masks(clip.mask_THW, square),
        displacement_px_T2HW=_field(clip.displacement_px_T2HW, clip.sector_HW, square, scale=scale),
        velocity_m_per_s_THW=_field(clip.velocity_m_per_s_THW, clip.sector_HW, square),
        **{name: square.resized(frames) for name, frames in grey.items()},
    )


def _masks(mask_THW: npt.NDArray[np.uint8], square: _Square) -> npt.NDArray[np.uint8]:
    """What is added around a frame that nobody annotated is not annotated either; else it is background."""
    borders = np.where((mask_THW == NOT_ANNOTATED).all((1, 2)), NOT_ANNOTATED, BACKGROUND)
    nearest = Image.Resampling.NEAREST
    return np.stack([square.resized(mask, nearest, border=border) for mask, border in zip(mask_THW, borders.tolist())])


def _field(
    field: npt.NDArray[np.float16] | None, sector_HW: npt.NDArray[np.bool_], square: _Square, *, scale: float = 1
) -> npt.NDArray[np.float16] | None:
    """Numbers (..., H, W) resized and scaled; the nothing outside the sector has no weight in their means."""
    if field is None:
        return None
    weight_HW = square.resized(sector_HW.astype(np.float32))
    total = square.resized(np.where(sector_HW, field, 0).astype(np.float32))
    return np.divide(total * scale, weight_HW, out=np.zeros_like(total), where=weight_HW > 1e-3).astype(np.float16)


@dataclass(frozen=True)
class _Square:
    """A box of an image, padded to a square, brought to `size` pixels a side."""

    top: int
    left: int
    height: int
    width: int
    size: int

    @property
    def side(self) -> int:
        """Of the square, before it is resized."""
        return max(self.height, self.width)

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the box in the square."""
        return (self.side - self.height) // 2, (self.side - self.width) // 2

    def resized(
        self, array: npt.NDArray[Any], resample: Image.Resampling = Image.Resampling.BILINEAR, *, border: int = 0
    ) -> npt.NDArray[Any]:
        """(..., H, W), uint8 or float32, to (..., size, size)."""
        planes = array.reshape(-1, *array.shape[-2:])
        done = np.empty((len(planes), self.size, self.size), array.dtype)
        (row, column), (rows, columns) = self.offset, (self.height, self.width)
        for plane_HW, done_HW in zip(planes, done):
            padded_HW = np.full((self.side, self.side), border, array.dtype)
            padded_HW[row : row + rows, column : column + columns] = plane_HW[self.top :, self.left :][:rows, :columns]
            done_HW[:] = Image.fromarray(padded_HW).resize((self.size, self.size), resample)
        return done.reshape(*array.shape[:-2], self.size, self.size)


def _bounding_box(sector_HW: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, height, width; the whole image where the sector is empty."""
    rows, columns = np.flatnonzero(sector_HW.any(1)), np.flatnonzero(sector_HW.any(0))
    if len(rows) == 0:
        return 0, 0, *sector_HW.shape
    return int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
