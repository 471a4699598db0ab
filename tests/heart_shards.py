"""Shards of generated hearts with their true phase, made without files: what pretraining is tested on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hearts import beating_heart

from echofm.clip import Clip
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.shards.write import write_shards

KEY = IdKey(b"0123456789abcdef")
FRAME_RATE_HZ = 50.0


@dataclass(frozen=True)
class Hearts:
    """One generated heart per patient, of its own shape, rate and start; the last `val` are held out."""

    train: int
    val: int
    name: str = "hearts"

    def rows(self) -> Iterator[Row]:
        for seed in range(self.train + self.val):
            yield Row(
                path=Path(f"heart-{seed}"), patient=f"Doe^Jane {seed}", split="train" if seed < self.train else "val"
            )


def read_heart(row: Row, *, frames: int, size: int, with_phase: bool = True) -> Clip:
    seed = int(row.path.name.removeprefix("heart-"))
    rate_bpm = 55.0 + 10 * (seed % 6)
    heart, phase_T = beating_heart(
        frames=frames, size=size, frame_rate_hz=FRAME_RATE_HZ, heart_rate_bpm=rate_bpm, seed=seed
    )
    return Clip(
        frames_TCHW=heart[:, None],
        sector_HW=(heart > 0).any(axis=0),
        frame_time_s=np.arange(frames) / FRAME_RATE_HZ,
        clip_id=KEY.clip(hashlib.sha256(heart.tobytes()).digest()),
        patient_id=KEY.patient(row.patient),
        kind="bmode",
        phase_T=phase_T if with_phase else None,
    )


def write_heart_shards(
    folder: Path, *, train: int, val: int, frames: int = 128, size: int = 112, with_phase: bool = True
) -> Path:
    """Write them at their own size and rate and return the folder."""
    read = functools.partial(read_heart, frames=frames, size=size, with_phase=with_phase)
    write_shards(Hearts(train, val), folder, size=size, frame_rate_hz=None, key=KEY, read=read, show_progress=False)
    return folder
