"""Shards of generated hearts with ejection fraction, heart rate, view, phase and masks, for generators."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from heart_shards import KEY, Hearts, read_heart

from echofm.clip import LEFT_VENTRICLE, Clip
from echofm.readers.source import Row
from echofm.shards.write import write_shards


def write_labelled_hearts(
    folder: Path,
    *,
    train: int = 8,
    val: int = 4,
    frames: int = 24,
    size: int = 16,
    views: tuple[str, ...] = ("A4C", "PLAX"),
) -> Path:
    """Write them at 50 Hz and return the folder."""
    read = functools.partial(_labelled, frames=frames, size=size, views=views)
    write_shards(Hearts(train, val), folder, size=size, frame_rate_hz=None, key=KEY, read=read, show_progress=False)
    return folder


def _labelled(row: Row, *, frames: int, size: int, views: tuple[str, ...]) -> Clip:
    clip = read_heart(row, frames=frames, size=size)
    seed = int(row.path.name.removeprefix("heart-"))
    bright = clip.frames_TCHW[:, 0] > 128
    return clip.replace(
        labels={"ef_percent": 20.0 + 6 * seed, "heart_rate_bpm": 55.0 + 10 * (seed % 6)},
        view=views[seed % len(views)],
        mask_THW=np.where(bright, LEFT_VENTRICLE, 0).astype(np.uint8),
    )
