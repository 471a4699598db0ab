"""Frames to a Motion-JPEG AVI, as EchoNet-Dynamic stores its clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt


def write_mjpeg(path: Path, frames_THWC: npt.NDArray[np.uint8], frame_rate_hz: float) -> None:
    """Write uint8 frames, C 1 or 3; the same bytes for the same frames."""
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=Fraction(frame_rate_hz).limit_denominator(1000))
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuvj420p"
        stream.options = {"qmin": "2", "qmax": "4", "flags": "+bitexact"}
        stream.thread_count = 1
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(_grey(frame_HWC[..., 0]) if frame_HWC.shape[2] == 1 else _colour(frame_HWC)))
        container.mux(stream.encode())


def _colour(frame_HWC: npt.NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")


def _grey(frame_HW: npt.NDArray[np.uint8]) -> av.VideoFrame:
    """Luma as it is beside chroma of none: by way of RGB it would come back two levels greener than red and blue."""
    height, width = frame_HW.shape
    frame = av.VideoFrame(width, height, "yuvj420p")
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    for plane, values in zip(frame.planes, (frame_HW, chroma, chroma)):
        padded = np.zeros((plane.height, plane.line_size), np.uint8)
        padded[:, : plane.width] = values
        plane.update(padded.tobytes())
    return frame
