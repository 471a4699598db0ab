"""Ultrasound DICOM: pixels frame by frame, frame times, scale, regions; no tag but patient and study leaves here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, Region, gather
from echofm.readers.dicom_file import read_data_set, silent_pydicom
from echofm.readers.dicom_kinds import TWO_DIMENSIONAL, check_object, declared_regions, kind_by_regions, whole
from echofm.readers.dicom_pixels import dicom_frames
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset

# DICOM PS3.3 C.8.5.5.1.15: unit code "cm".
_CENTIMETRE = 3


def decode_dicom(source: BinaryIO, *, channels: int, limits: Limits) -> Decoded:
    """Decode one ultrasound image or cine loop.

    Refused where there are no pixels, where the header claims more than the limits allow or than the file holds, where
    the codec's library is missing, and, by its kind, on an object that is no two-dimensional echo (dicom_kinds).
    """
    from pydicom import config

    with silent_pydicom(), config.disable_value_validation():
        data_set = read_data_set(source)
        check_object(data_set)
        frames, height, width = _claimed_shape(data_set)
        sample_bytes = max(1, int(data_set.get("BitsAllocated") or 8) // 8)
        limits.check_clip(frames=frames, height=height, width=width, channels=channels, sample_bytes=sample_bytes)
        regions = declared_regions(data_set, height=height, width=width)
        kind = kind_by_regions(data_set, frames)
        clip_TCHW, chroma_HW = gather(dicom_frames(data_set, frames=frames), at_most=frames, channels=channels)
        if len(clip_TCHW) < frames:
            raise Refused(f"{len(clip_TCHW)} of {frames} frames could be decoded: the file is cut")
        return Decoded(
            frames_TCHW=clip_TCHW,
            chroma_HW=chroma_HW,
            frame_time_s=_frame_times(data_set, frames),
            pixel_spacing_mm=_pixel_spacing(data_set, regions),
            pixel_aspect=_pixel_aspect(data_set),
            kind=kind,
            patient=_text(data_set, "PatientID"),
            study=_text(data_set, "StudyInstanceUID"),
            regions=regions,
        )


def _claimed_shape(data_set: Dataset) -> tuple[int, int, int]:
    """Frames, rows and columns by the header; refused where there is no image."""
    if "PixelData" not in data_set:
        raise Refused("the DICOM file has no pixels")
    frames = data_set.get("NumberOfFrames")
    return (
        1 if frames is None or frames == "" else whole(frames),
        whole(data_set.get("Rows")),
        whole(data_set.get("Columns")),
    )


def _number(value: Any) -> float:
    """A numeric tag; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


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
            units = {whole(item.get("PhysicalUnitsXDirection")), whole(item.get("PhysicalUnitsYDirection"))}
            if whole(item.get("RegionSpatialFormat")) == TWO_DIMENSIONAL and units == {_CENTIMETRE}:
                return _positive_pair(item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX"), scale=10)
    spacing = data_set.get("PixelSpacing")
    if spacing is None or isinstance(spacing, (str, bytes)) or not hasattr(spacing, "__len__") or len(spacing) != 2:
        return None
    return _positive_pair(spacing[0], spacing[1], scale=1)


def _pixel_aspect(data_set: Dataset) -> float:
    """PixelAspectRatio is a pixel's height, then its width (PS3.3 C.7.6.3.1.7)."""
    ratio = data_set.get("PixelAspectRatio")
    if ratio is None or isinstance(ratio, (str, bytes)) or not hasattr(ratio, "__len__") or len(ratio) != 2:
        return 1.0
    pair = _positive_pair(ratio[0], ratio[1], scale=1)
    return pair[1] / pair[0] if pair else 1.0


def _positive_pair(row: Any, column: Any, *, scale: float) -> tuple[float, float] | None:
    # A region's delta may be negative: it tells the axis' direction.
    pair = abs(_number(row)) * scale, abs(_number(column)) * scale
    return pair if all(np.isfinite(value) and value > 0 for value in pair) else None


def _text(data_set: Dataset, tag: str) -> str | None:
    """A tag as text to be hashed; None where it is missing or empty."""
    return str(data_set.get(tag) or "").strip() or None
