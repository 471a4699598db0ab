"""Decoded: what a format's reader hands over, before the sector is found and names become ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.readers.luma import luma
from echofm.readers.refused import Refused

# Frames looked at to tell a colour clip from a grey one.
_COLOUR_SAMPLES = 16
# By how much a label's colour changes in a lossy codec.
_STANDS_STILL = 16


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of the screen as the scanner declares it (DICOM PS3.3 C.8.5.5), rows and columns inclusive.

    spatial_format: 1 two-dimensional, 2 M-mode, 3 spectral, 4 wave form, 5 graphics.
    data_type: 1 tissue, 2 colour flow, 3 pulsed-wave and 4 continuous-wave spectral Doppler, ...
    spacing_mm: (row, column) between its pixels; None where it is not declared in cm.
    """

    top: int
    left: int
    bottom: int
    right: int
    spatial_format: int
    data_type: int
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """frames_TCHW uint8, C 1 or 3; chroma_HW uint8, the largest RGB spread of saturated colours over sampled frames,
    0 where a cine's colour stands still, as that of labels does.

    patient, study: the names the file itself gives, None where it gives none. kind: None where the header does not
    tell. frame_time_s, pixel_spacing_mm: as in `Clip`. pixel_aspect: a pixel's width by its height, where there is no
    spacing. regions: in this image's pixels, none where one lies outside of it. companion_sha256: of the pixels where
    they lie in a second file, else empty.
    """

    frames_TCHW: npt.NDArray[np.uint8]
    chroma_HW: npt.NDArray[np.uint8] | None = None
    frame_time_s: npt.NDArray[np.float64] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    pixel_aspect: float = 1.0
    kind: str | None = None
    patient: str | None = None
    study: str | None = None
    regions: tuple[Region, ...] = ()
    companion_sha256: bytes = b""


def _saturated_spread(rgb_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Brightest less darkest sample of each pixel where the colour is saturated; 0 in grey and in tinted grey maps."""
    red, green, blue = (rgb_HWC[..., sample] for sample in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    return (brightest - darkest) * (darkest < brightest // 5 * 2)


class _Chroma:
    """The chroma map of `Decoded`, from one sampled frame after another."""

    def __init__(self) -> None:
        self._low_HW: npt.NDArray[np.uint8] | None = None
        self._high_HW = np.empty(0, np.uint8)

    def add(self, rgb_HWC: npt.NDArray[np.uint8]) -> None:
        spread_HW = _saturated_spread(rgb_HWC)
        if self._low_HW is None:
            self._low_HW, self._high_HW = spread_HW, spread_HW.copy()
        else:
            np.minimum(self._low_HW, spread_HW, out=self._low_HW)
            np.maximum(self._high_HW, spread_HW, out=self._high_HW)

    def map_HW(self, *, is_still: bool) -> npt.NDArray[np.uint8] | None:
        if self._low_HW is None or is_still:
            return self._low_HW
        return self._high_HW * (self._high_HW - self._low_HW > _STANDS_STILL)


def gather(
    frames: Iterable[npt.NDArray[np.uint8]], *, at_most: int, channels: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Collect decoded frames, (H, W) or (H, W, 3), into (T, C, H, W) one at a time, and the chroma map.

    Refused where there is no frame, more than `at_most`, or one of another size than the first.
    """
    clip_TCHW = np.empty((0, channels, 0, 0), np.uint8)
    chroma = _Chroma()
    count = 0
    for count, frame in enumerate(frames, start=1):
        if count == 1:
            clip_TCHW = np.empty((at_most, channels, *frame.shape[:2]), np.uint8)
        if frame.shape[:2] != clip_TCHW.shape[2:]:
            raise Refused(f"the frame size changes at frame {count}")
        if count > at_most:
            raise Refused(f"it holds more frames than the {at_most} announced")
        if frame.ndim == 2:
            clip_TCHW[count - 1] = frame
            continue
        if (count - 1) % max(1, at_most // _COLOUR_SAMPLES) == 0:
            chroma.add(frame)
        clip_TCHW[count - 1] = luma(frame) if channels == 1 else np.moveaxis(frame, 2, 0)
    if count == 0:
        raise Refused("no frame could be decoded")
    return clip_TCHW[:count], chroma.map_HW(is_still=count == 1)
