"""The baseline for loading: a clip from an AVI as the published loaders of this field read it.

Every frame of the file is decoded to colour, all become float32, then a random window is cut out and resized.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.errors import EchofmError


def decode_all(path: Path) -> npt.NDArray[np.uint8]:
    """Every frame (T, H, W, 3), RGB."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    if not frames:
        raise EchofmError("the benchmark's AVI cannot be decoded; OpenCV needs its ffmpeg plugin")
    return np.stack(frames)


def load_window(path: Path, *, frames: int, size: int, rng: np.random.Generator) -> torch.Tensor:
    """A random window (3, T, size, size) in [0, 1], looped where the clip is short."""
    video_TCHW = torch.from_numpy(decode_all(path)).permute(0, 3, 1, 2).float() / 255
    start = int(rng.integers(max(1, len(video_TCHW) - frames + 1)))
    window = video_TCHW[(start + torch.arange(frames)) % len(video_TCHW)]
    return F.interpolate(window, (size, size), mode="bilinear", align_corners=False).transpose(0, 1)


def load_batch(paths: Sequence[Path], *, frames: int, size: int, rng: np.random.Generator) -> torch.Tensor:
    """One window of each file, (B, 3, T, size, size)."""
    return torch.stack([load_window(path, frames=frames, size=size, rng=rng) for path in paths])
