"""What someone may do to a recording and still have a copy of it."""

from __future__ import annotations

import numpy as np
from hearts import Frames
from PIL import Image


def brighter(frames_THW: Frames, rng: np.random.Generator) -> Frames:
    """Another gamma, another gain."""
    gamma, gain = rng.uniform(0.7, 1.4), rng.uniform(0.6, 1.4)
    return np.clip(255 * (frames_THW / 255.0) ** gamma * gain, 0, 255).astype(np.uint8)


def cropped(frames_THW: Frames, rng: np.random.Generator) -> Frames:
    """Up to 12 % off each side, blown up to the old size."""
    height, width = frames_THW.shape[1:]
    top, bottom = (rng.uniform(0, 0.12, 2) * height).astype(int)
    left, right = (rng.uniform(0, 0.12, 2) * width).astype(int)
    parts = (Image.fromarray(frame[top : height - bottom, left : width - right]) for frame in frames_THW)
    return np.stack([np.asarray(part.resize((width, height), Image.Resampling.BICUBIC)) for part in parts])
