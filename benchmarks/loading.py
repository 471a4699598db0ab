"""Loading: 32 random frames of 112^2 from shards, against whole AVIs decoded as the published loaders do.

Both sides read the same clips: EchoNet-Dynamic's shape, 176 frames of 112^2 at 50 Hz in MJPG. The clock is this
process's CPU time, all threads, so that a busy machine and idle cores count for nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import scipy.ndimage

from benchmarks.avi_loader import decode_all, load_batch
from benchmarks.timing import Row, Variant, alternate
from echofm.clip import Clip, ClipBatch
from echofm.ids import IdKey
from echofm.readers.source import Row as SourceRow
from echofm.shards.loader import train_batches
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards

FRAMES, SIZE, FRAME_RATE_HZ, VIDEO_FRAMES = 32, 112, 50, 176
TARGET_CLIPS_PER_S = 300.0
_KEY = IdKey(bytes(32))


@dataclass(frozen=True)
class Videos:
    """The AVIs as a source of rows; every file is its own patient."""

    paths: tuple[Path, ...]
    name: str = "benchmark"

    def rows(self) -> Iterator[SourceRow]:
        """One row per file."""
        for path in self.paths:
            yield SourceRow(path=path, patient=path.stem)


def load_rows(*, videos: int, rounds: int, batch: int = 8) -> list[Row]:
    """Clips per CPU-second of both loaders; every round reads each AVI once, and shards eight times as many clips."""
    with tempfile.TemporaryDirectory(prefix="echofm-bench-") as folder:
        paths = tuple(write_video(Path(folder) / f"video{index:03d}.avi", seed=index) for index in range(videos))
        out = Path(folder) / "shards"
        write_shards(Videos(paths), out, size=SIZE, split_by="none", key=_KEY, read=grey_clip, show_progress=False)
        batches = train_batches(
            ShardSet.open(out, show_progress=False),
            frames=FRAMES,
            frame_rate_hz=FRAME_RATE_HZ,
            batch=batch,
            workers=0,
            seed=0,
        )
        rng = np.random.default_rng(0)
        steps = 8 * max(1, videos // batch)

        def read_shards(convert: Callable[[ClipBatch], object]) -> None:
            # Each batch is dropped before the next, as training does.
            for _ in range(steps):
                convert(next(batches))

        name = f"load {FRAMES} frames of {SIZE}^2"
        sides = [
            Variant(name=f"{name}, bytes", run=lambda: read_shards(len), clips=steps * batch),
            Variant(
                name=f"{name}, float32",
                run=lambda: read_shards(lambda clips: clips.to("cpu")),
                clips=steps * batch,
                note="converted on the CPU too; training converts on its device",
            ),
        ]
        baseline = Variant(
            name="AVI decoded whole",
            run=lambda: load_batch(paths, frames=FRAMES, size=SIZE, rng=rng),
            clips=videos,
        )
        seconds = alternate(baseline, sides, rounds=rounds, clock=time.process_time)
    return [as_rates(row) for row in seconds]


def as_rates(row: Row) -> Row:
    """The same row in clips per CPU-second, judged by the promised rate."""
    rate = 1 / row.variant
    return replace(
        row,
        unit="clips/CPU-s",
        baseline=1 / row.baseline,
        variant=rate,
        target=f">= {TARGET_CLIPS_PER_S:g} clips/CPU-s",
        met=rate >= TARGET_CLIPS_PER_S,
        note=row.note or f"baseline: {VIDEO_FRAMES} frames of MJPG decoded whole; no workers",
    )


def grey_clip(row: SourceRow) -> Clip:
    """The benchmark's own reader: no sector is looked for in what it has drawn itself."""
    frames_TCHW = np.ascontiguousarray(decode_all(row.path)[..., :1].transpose(0, 3, 1, 2))
    return Clip(
        frames_TCHW=frames_TCHW,
        sector_HW=np.ones(frames_TCHW.shape[2:], dtype=bool),
        clip_id=_KEY.clip(row.path.read_bytes()),
        patient_id=_KEY.patient(row.path.stem),
        frame_time_s=np.arange(len(frames_TCHW)) / FRAME_RATE_HZ,
    )


def write_video(path: Path, *, seed: int) -> Path:
    """A speckled fan that swells and shrinks, as MJPG in AVI."""
    rng = np.random.default_rng(seed)
    speckle = scipy.ndimage.gaussian_filter(rng.rayleigh(1.0, (SIZE, SIZE)), 0.8)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    fan = (np.abs(np.arctan2(columns - 0.5, rows + 0.05)) < 0.7) & (np.hypot(columns - 0.5, rows) < 0.98)
    radius = np.hypot(rows - 0.55, columns - 0.5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(FRAME_RATE_HZ))
        stream.height = stream.width = SIZE
        stream.pix_fmt = "yuvj420p"
        for index in range(VIDEO_FRAMES):
            wall = 0.22 + 0.05 * np.sin(2 * np.pi * index / 40)
            tissue = 0.2 + np.exp(-(((radius - wall) / 0.06) ** 2))
            grey = np.clip(110 * tissue * speckle * fan, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode())
    return path
