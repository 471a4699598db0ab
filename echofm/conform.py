"""conform: bring a clip as read to one size, one frame rate and one channel rule.

Shards and `echofm embed` call the same function, so that a file and its shard give the same embedding.
T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from echofm.clip import NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.readers.luma import luma
from echofm.window import nearest_frames


def conform(
    clip: Clip, *, size: int | None = None, frame_rate_hz: float | None = None, channels: int | None = None
) -> Clip:
    """The clip at `size` x `size` pixels, `frame_rate_hz` and `channels`; None leaves that property as it is.

    Space: cut to the sector's bounding box, padded with zeros to a square, resized by an antialiased triangle filter
    (Pillow's BILINEAR, which is torch's `interpolate(mode="bilinear", antialias=True)`). Pixels keep their aspect.
    A clip that has the size already is not cut, so that conform(conform(x)) = conform(x).
    Time: the frame nearest to every k / frame_rate_hz; frames are repeated or dropped, never blended, because speckle
    does not survive blending. A clip of unknown times keeps its frames.
    Sector, fan, spacing, phase and mask follow. Raises EchofmError on a size or rate that is not positive.
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
    return clip.replace(
        frames_TCHW=clip.frames_TCHW[chosen],
        frame_time_s=grid_s,
        phase_T=None if clip.phase_T is None else clip.phase_T[chosen],
        mask_THW=None if clip.mask_THW is None else clip.mask_THW[chosen],
    )


def _at_size(clip: Clip, size: int | None) -> Clip:
    if size is None or clip.sector_HW.shape == (size, size):
        return clip
    top, left, height, width = _bounding_box(clip.sector_HW)
    side = max(height, width)
    box = slice(top, top + height), slice(left, left + width)
    place = (side - height) // 2, (side - width) // 2
    frames_TCHW = np.empty((*clip.frames_TCHW.shape[:2], size, size), np.uint8)
    for frame_CHW, resized_CHW in zip(clip.frames_TCHW, frames_TCHW):
        for plane_HW, resized_HW in zip(frame_CHW, resized_CHW):
            resized_HW[:] = _resized(_squared(plane_HW[box], side, place), size, Image.Resampling.BILINEAR)
    sector = _squared(np.uint8(255) * clip.sector_HW[box], side, place)
    spacing, fan = clip.pixel_spacing_mm, clip.fan
    return clip.replace(
        frames_TCHW=frames_TCHW,
        # Every pixel that the sector contributes to, so that all outside the new sector is zero as before.
        sector_HW=_resized(sector, size, Image.Resampling.BILINEAR) > 0,
        fan=None if fan is None else fan.placed(scale=size / side, row=place[0] - top, column=place[1] - left),
        pixel_spacing_mm=None if spacing is None else (spacing[0] * side / size, spacing[1] * side / size),
        mask_THW=None if clip.mask_THW is None else _mask_at_size(clip.mask_THW, box, side, place, size),
    )


def _mask_at_size(
    mask_THW: npt.NDArray[np.uint8], box: tuple[slice, slice], side: int, place: tuple[int, int], size: int
) -> npt.NDArray[np.uint8]:
    resized_THW = np.empty((len(mask_THW), size, size), np.uint8)
    for mask_HW, resized_HW in zip(mask_THW, resized_THW):
        # What is added around a frame that nobody annotated is not annotated either; else it is background.
        border = NOT_ANNOTATED if (mask_HW == NOT_ANNOTATED).all() else 0
        resized_HW[:] = _resized(_squared(mask_HW[box], side, place, border), size, Image.Resampling.NEAREST)
    return resized_THW


def _bounding_box(sector_HW: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, height, width; the whole image where the sector is empty."""
    rows, columns = np.flatnonzero(sector_HW.any(1)), np.flatnonzero(sector_HW.any(0))
    if len(rows) == 0:
        return 0, 0, *sector_HW.shape
    return int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def _squared(
    plane_HW: npt.NDArray[np.uint8], side: int, place: tuple[int, int], border: int = 0
) -> npt.NDArray[np.uint8]:
    square_HW = np.full((side, side), border, np.uint8)
    square_HW[place[0] : place[0] + plane_HW.shape[0], place[1] : place[1] + plane_HW.shape[1]] = plane_HW
    return square_HW


def _resized(plane_HW: npt.NDArray[np.uint8], size: int, filter_kind: Image.Resampling) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(plane_HW).resize((size, size), filter_kind))
