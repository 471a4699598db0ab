"""Ultrasound DICOM: pixels frame by frame, frame times, scale, regions; no tag but patient and study leaves here."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, Region, gather
from echofm.readers.dicom_file import read_data_set, silent_pydicom
from echofm.readers.dicom_kinds import check_object, declared_regions, kind_by_regions, number, positive_pair, whole
from echofm.readers.dicom_pixels import dicom_frames
from echofm.readers.images import TWO_DIMENSIONAL
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset


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


def _frame_times(data_set: Dataset, frames: int) -> npt.NDArray[np.float64] | None:
    """Seconds since the first frame by FrameTimeVector, FrameTime, CineRate, RecommendedDisplayFrameRate, else None.

    A tag whose rate is not plausible (FrameTime in seconds, say, not in milliseconds) leaves the word to the next one.
    """
    if frames == 1:
        return None
    vector = data_set.get("FrameTimeVector")
    if vector is not None and not isinstance(vector, (str, bytes)) and hasattr(vector, "__len__") and len(vector):
        steps_s = np.array([number(step) for step in vector]) / 1000
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
        value = number(data_set.get(tag))
        if value > 0 and _is_plausible(to_step_s(value)):
            return np.arange(frames) * to_step_s(value)
    return None


def _is_plausible(step_s: float) -> bool:
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    return 1 / high_hz <= step_s <= 1 / low_hz


def _pixel_spacing(data_set: Dataset, regions: tuple[Region, ...]) -> tuple[float, float] | None:
    """(row, column) millimetres: the first two-dimensional region's that declares one in cm, else PixelSpacing."""
    declared = (one.spacing_mm for one in regions if one.spatial_format == TWO_DIMENSIONAL)
    return next((spacing for spacing in declared if spacing), None) or _pair(data_set, "PixelSpacing")


def _pixel_aspect(data_set: Dataset) -> float:
    """PixelAspectRatio is a pixel's height, then its width (PS3.3 C.7.6.3.1.7)."""
    pair = _pair(data_set, "PixelAspectRatio")
    return pair[1] / pair[0] if pair else 1.0


def _pair(data_set: Dataset, tag: str) -> tuple[float, float] | None:
    value = data_set.get(tag)
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
        return None
    return positive_pair(value[0], value[1])


def _text(data_set: Dataset, tag: str) -> str | None:
    """A tag as text to be hashed; None where it is missing or empty."""
    return str(data_set.get(tag) or "").strip() or None
