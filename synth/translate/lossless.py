"""Grey clips as lossless video, which every reader of this house gives back byte for byte."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

# The readers take a rate below 1 Hz for none.
_NO_RATE_HZ = 0.5
_TICKS_PER_S = 1000
_EVEN = 1e-3


def suffix_of(frame_time_s: npt.NDArray[np.float64] | None) -> str:
    """AVI where frames follow evenly; Matroska, which has a time for each, where they do not."""
    if frame_time_s is None or len(frame_time_s) < 3:
        return ".avi"
    steps_s = np.diff(frame_time_s)
    return ".avi" if np.ptp(steps_s) < _EVEN * steps_s.mean() else ".mkv"


def write_lossless(
    path: Path, frames_THW: npt.NDArray[np.uint8], frame_time_s: npt.NDArray[np.float64] | None, *, suffix: str
) -> None:
    """FFV1; the same bytes for the same frames. suffix: `suffix_of` the times; Matroska rounds them to milliseconds."""
    known = frame_time_s is not None and len(frame_time_s) > 1
    rate_hz = (len(frames_THW) - 1) / frame_time_s[-1] if known and frame_time_s is not None else _NO_RATE_HZ
    even = suffix == ".avi"
    with av.open(str(path), "w", format="avi" if even else "matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=Fraction(rate_hz).limit_denominator(1001))
        stream.height, stream.width = frames_THW.shape[1:]
        stream.pix_fmt = "gray"
        stream.options = {"level": "3", "slices": "4", "slicecrc": "1", "flags": "+bitexact"}
        stream.thread_count = 1
        if not even:
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        for number, frame_HW in enumerate(frames_THW):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HW), format="gray")
            if not even and frame_time_s is not None:
                frame.pts, frame.time_base = round(frame_time_s[number] * _TICKS_PER_S), Fraction(1, _TICKS_PER_S)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
