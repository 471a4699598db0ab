"""A quick beating heart for tests: a speckled ring that contracts in a sector, with known phase. Not the phantom."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import scipy.ndimage

Frames = npt.NDArray[np.uint8]


def beating_heart(
    *,
    frames: int = 64,
    size: int = 112,
    frame_rate_hz: float = 50.0,
    heart_rate_bpm: float = 75.0,
    seed: int = 0,
) -> tuple[Frames, npt.NDArray[np.float32]]:
    """Grey frames (T, H, W) and phase (T,) in [0, 1), 0 at the largest cavity. Zero outside a fan-shaped sector."""
    rng = np.random.default_rng(seed)
    phase = (np.arange(frames) / frame_rate_hz * heart_rate_bpm / 60 + rng.uniform()) % 1.0
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1)
    centre_row, centre_column = rng.uniform(0.5, 0.6), rng.uniform(0.45, 0.55)
    rest, wall, squeeze = rng.uniform(0.2, 0.26), rng.uniform(0.05, 0.08), rng.uniform(0.25, 0.45)
    stretch = rng.uniform(1.2, 1.6)
    speckle = scipy.ndimage.gaussian_filter(rng.rayleigh(1.0, (2 * size, 2 * size)), 1.0)
    distance = np.hypot((rows - centre_row) / stretch, columns - centre_column)
    angle = np.arctan2(columns - 0.5, rows + 0.05)
    sector = (np.abs(angle) < 0.7) & (np.hypot(columns - 0.5, rows) < 0.98)
    clip = np.empty((frames, size, size), np.uint8)
    for index, value in enumerate(phase):
        # Fast out, slow back: systole takes a third of the beat, so that filling and ejection differ.
        contraction = np.sin(np.pi * value / 0.66) ** 2 if value < 0.33 else np.cos(np.pi * (value - 0.33) / 1.34) ** 2
        radius = rest * (1 - squeeze * contraction)
        thickness = wall * (1 + 0.4 * contraction)
        tissue = np.exp(-(((distance - radius) / thickness) ** 2)) + 0.15 + 0.3 * (distance > radius + 3 * wall)
        scale = rest / radius
        texture = scipy.ndimage.map_coordinates(
            speckle,
            [(rows - centre_row) * size * scale + size, (columns - centre_column) * size * scale + size],
            order=1,
            mode="reflect",
        )
        clip[index] = np.clip(110 * tissue * texture, 1, 255) * sector
    return clip, phase.astype(np.float32)


def write_avi(path: Path, frames_THW: Frames, frame_rate_hz: int = 50, codec: str = "mjpeg") -> Path:
    """Write grey frames as a video; MJPEG in AVI by default, as EchoNet-Dynamic is stored."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(frame_rate_hz))
        stream.height, stream.width = frames_THW.shape[1:]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "mjpeg":
            stream.options = {"qmin": "2", "qmax": "3"}
        for frame in frames_THW:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode())
    return path
