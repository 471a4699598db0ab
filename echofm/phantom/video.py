"""Frames to a Motion-JPEG AVI, as EchoNet-Dynamic stores its clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt


def write_mjpeg(path: Path, frames_THWC: npt.NDArray[np.uint8], frame_rate_hz: float) -> None:
    """Write uint8 frames, C 1 or 3; the same bytes for the same frames."""
    rgb = np.ascontiguousarray(np.broadcast_to(frames_THWC, (*frames_THWC.shape[:3], 3)))
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=Fraction(frame_rate_hz).limit_denominator(1000))
        stream.height, stream.width = rgb.shape[1:3]
        stream.pix_fmt = "yuvj420p"
        stream.options = {"qmin": "2", "qmax": "4", "flags": "+bitexact"}
        stream.thread_count = 1
        for frame in rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
