"""Small shards for tests: hearts as a source, without any video file, and the folder that comes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hearts import beating_heart

from echofm import Clip
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.shards.manifest import Manifest
from echofm.shards.write import write_shards

KEY = IdKey(b"a key for tests only")


class Hearts:
    """A source of `n_files` files whose names are numbers; two clips per patient. Frame counts differ by clip."""

    name = "hearts"

    def __init__(self, folder: Path, n_files: int, *, splits: bool = False, views: tuple[str, ...] = ("A4C", "PLAX")):
        self.folder, self.n_files, self.splits, self.views = folder, n_files, splits, views
        folder.mkdir(exist_ok=True, parents=True)
        for index in range(n_files):
            # Not anew: a file's time of change is part of what an interrupted run is known by.
            if not (folder / f"{index}.avi").exists():
                (folder / f"{index}.avi").write_text(str(index))

    def rows(self) -> Iterator[Row]:
        for index in range(self.n_files):
            yield Row(
                path=self.folder / f"{index}.avi",
                patient=f"patient {index // 2}",
                split=("train", "val", "test")[index // 2 % 3] if self.splits else None,
                view=self.views[index % len(self.views)],
                labels={"ef_percent": 40.0 + index, "sex": "f"},
            )


def read_heart(row: Row) -> Clip:
    """The clip of a row of `Hearts`; a file whose text is no number is unreadable."""
    text = row.path.read_text()
    if not text.isdigit():
        raise UnreadableFile("x", "no heart in it")
    number = int(text)
    frames, phase = beating_heart(frames=24 + number % 5 * 4, size=48, seed=number)
    return Clip(
        frames_TCHW=frames[:, None],
        sector_HW=frames.any(0),
        frame_time_s=None if number % 7 == 6 else np.arange(len(frames)) / 50,
        clip_id=KEY.clip(hashlib.sha256(text.encode()).digest()),
        patient_id=KEY.patient(row.patient),
        view=row.view,
        kind="still" if number % 11 == 10 else "bmode",
        simulated=number % 2 == 0,
        labels=row.labels,
        phase_T=phase,
        pixel_spacing_mm=(0.5, 0.5),
        mask_THW=np.where((np.arange(len(frames)) % 9 == 2)[:, None, None], frames > 60, 255).astype(np.uint8),
    )


def write_hearts(out: Path, n_files: int = 12, **options: Any) -> Manifest:
    """Shards of hearts at 32 x 32."""
    source = Hearts(out.with_name(out.name + "-files"), n_files)
    return write_shards(source, out, **{"size": 32, "key": KEY, "read": read_heart, **options})
