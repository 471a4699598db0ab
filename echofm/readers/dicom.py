"""Ultrasound DICOM: pixels frame by frame, frame times, scale, regions; no tag but patient and study leaves here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, Region, gather
from echofm.readers.dicom_pixels import dicom_frames
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset

# DICOM PS3.3 C.8.5.5.1: values of Region Spatial Format and Region Data Type, unit code "cm".
_TWO_DIMENSIONAL, _M_MODE, _SPECTRAL = 1, 2, 3
_COLOUR_FLOW = 2
_CENTIMETRE = 3
_DEFLATED = "1.2.840.10008.1.2.1.99"


def decode_dicom(source: BinaryIO, *, channels: int, limits: Limits) -> Decoded:
    """Decode one ultrasound image or cine loop.

    Refused where there are no pixels, where the header claims more than the limits allow or than the file holds, where
    the codec's library is missing, and on spectral or M-mode screens without a two-dimensional image.
    """
    import pydicom
    from pydicom import config

    with _silent(), config.disable_value_validation():
        _refuse_deflated(source)
        data_set = pydicom.dcmread(source)
        frames, height, width, samples = _claimed_shape(data_set)
        sample_bytes = max(1, int(data_set.get("BitsAllocated") or 8) // 8)
        limits.check_clip(frames=frames, height=height, width=width, channels=samples, sample_bytes=sample_bytes)
        regions = _regions(data_set, height=height, width=width)
        kind = _kind(data_set, regions, frames)
        clip_TCHW, chroma_HW = gather(dicom_frames(data_set, frames=frames), at_most=frames, channels=channels)
        if len(clip_TCHW) < frames:
            raise Refused(f"{len(clip_TCHW)} of {frames} frames could be decoded: the file is cut")
        return Decoded(
            frames_TCHW=clip_TCHW,
            chroma_HW=chroma_HW,
            frame_time_s=_frame_times(data_set, frames),
            pixel_spacing_mm=_pixel_spacing(data_set, regions),
            kind=kind,
            patient=_text(data_set, "PatientID") or _text(data_set, "StudyInstanceUID"),
            study=_text(data_set, "StudyInstanceUID"),
            regions=regions,
        )


@contextmanager
def _silent() -> Iterator[None]:
    """pydicom's warnings and log lines quote values, and values are the patient's."""
    log = logging.getLogger("pydicom")
    was_disabled = log.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = was_disabled


def _refuse_deflated(source: BinaryIO) -> None:
    """The deflated transfer syntax inflates the whole file at once, unbounded; no scanner writes it."""
    from pydicom.filereader import read_dataset

    source.seek(132)
    meta = read_dataset(source, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    source.seek(0)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        raise Refused("deflated DICOM is not read, as its size cannot be told before; write it uncompressed")


def _claimed_shape(data_set: Dataset) -> tuple[int, int, int, int]:
    """Frames, rows, columns and samples per pixel by the header; refused where there is no image."""
    if "PixelData" not in data_set:
        raise Refused("the DICOM file has no pixels")
    frames = data_set.get("NumberOfFrames")
    return (
        1 if frames is None or frames == "" else _whole(frames),
        _whole(data_set.get("Rows")),
        _whole(data_set.get("Columns")),
        _whole(data_set.get("SamplesPerPixel", 1)),
    )


def _whole(value: Any) -> int:
    """An integer tag; 0, which the limits refuse, where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _number(value: Any) -> float:
    """A numeric tag; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _regions(data_set: Dataset, *, height: int, width: int) -> tuple[Region, ...]:
    """Declared regions; none where one lies outside the image, as in copies that were resized afterwards."""
    regions = []
    for item in data_set.get("SequenceOfUltrasoundRegions") or ():
        region = Region(
            top=_whole(item.get("RegionLocationMinY0")),
            left=_whole(item.get("RegionLocationMinX0")),
            bottom=_whole(item.get("RegionLocationMaxY1")),
            right=_whole(item.get("RegionLocationMaxX1")),
            spatial_format=_whole(item.get("RegionSpatialFormat")),
            data_type=_whole(item.get("RegionDataType")),
        )
        # Some writers give the far corner one past the last pixel.
        if not (0 <= region.top < region.bottom <= height and 0 <= region.left < region.right <= width):
            return ()
        regions.append(region)
    return tuple(regions)


def _kind(data_set: Dataset, regions: tuple[Region, ...], frames: int) -> str | None:
    """What the header says that the screen shows; None where only the pixels can tell."""
    declared = data_set.get("SequenceOfUltrasoundRegions") or ()
    formats = {_whole(item.get("RegionSpatialFormat")) for item in declared}
    types = {_whole(item.get("RegionDataType")) for item in declared}
    if formats & {_M_MODE, _SPECTRAL}:
        if _TWO_DIMENSIONAL not in formats:
            raise Refused("a spectral Doppler or M-mode screen without a two-dimensional image")
        return "spectral"
    if frames == 1:
        return "still"
    return "colour_doppler" if _COLOUR_FLOW in types else None


def _frame_times(data_set: Dataset, frames: int) -> npt.NDArray[np.float64] | None:
    """Seconds since the first frame by FrameTimeVector, FrameTime, CineRate, RecommendedDisplayFrameRate, else None.

    A tag whose rate is not plausible (FrameTime in seconds, say, not in milliseconds) leaves the word to the next one.
    """
    if frames == 1:
        return None
    vector = data_set.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, (str, bytes)) and hasattr(vector, "__len__") and len(vector):
        steps_s = np.array([_number(step) for step in vector]) / 1000
        # The first entry is the first frame's own offset, always 0 in practice, and left out by some writers.
        steps_s = steps_s[1:] if len(steps_s) == frames else steps_s
        whole = len(steps_s) == frames - 1 and np.isfinite(steps_s).all() and (steps_s > 0).all()
        if whole and _is_plausible(float(np.median(steps_s))):
            return np.concatenate([[0.0], np.cumsum(steps_s)])
    for tag, to_step_s in (
        ("FrameTime", lambda value: value / 1000),
        ("CineRate", lambda value: 1 / value),
        ("RecommendedDisplayFrameRate", lambda value: 1 / value),
    ):
        value = _number(data_set.get(tag))
        if value > 0 and _is_plausible(to_step_s(value)):
            return np.arange(frames) * to_step_s(value)
    return None


def _is_plausible(step_s: float) -> bool:
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    return 1 / high_hz <= step_s <= 1 / low_hz


def _pixel_spacing(data_set: Dataset, regions: tuple[Region, ...]) -> tuple[float, float] | None:
    """(row, column) millimetres: the first two-dimensional region's Physical Delta in cm, else PixelSpacing."""
    if regions:
        for item in data_set.SequenceOfUltrasoundRegions:
            units = {_whole(item.get("PhysicalUnitsXDirection")), _whole(item.get("PhysicalUnitsYDirection"))}
            if _whole(item.get("RegionSpatialFormat")) == _TWO_DIMENSIONAL and units == {_CENTIMETRE}:
                return _positive_pair(item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX"), scale=10)
    spacing = data_set.get("PixelSpacing")
    if spacing is None or isinstance(spacing, (str, bytes)) or not hasattr(spacing, "__len__") or len(spacing) != 2:
        return None
    return _positive_pair(spacing[0], spacing[1], scale=1)


def _positive_pair(row: Any, column: Any, *, scale: float) -> tuple[float, float] | None:
    # A region's delta may be negative: it tells the axis' direction.
    pair = abs(_number(row)) * scale, abs(_number(column)) * scale
    return pair if all(np.isfinite(value) and value > 0 for value in pair) else None


def _text(data_set: Dataset, tag: str) -> str | None:
    """A tag as text to be hashed; None where it is missing or empty."""
    return str(data_set.get(tag) or "").strip() or None
