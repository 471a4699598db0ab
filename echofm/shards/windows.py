"""Windows as batches: chosen frames of clips, read or cut, stacked and joined.

B windows, L frames, T frames of the clip, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip, ClipBatch
from echofm.errors import EchofmError
from echofm.shards.order import draws
from echofm.shards.read import ShardSet
from echofm.window import Times, even_starts_s, random_start_s, window_indices, window_time_s


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which frames of which clip, and the seed of every random choice about it. frame_time_s_L: NaN where unknown."""

    clip: int
    indices_L: npt.NDArray[np.int64]
    valid_L: npt.NDArray[np.bool_]
    frame_time_s_L: npt.NDArray[np.float64]
    draw: int


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """The windows to take of clips: how many frames, and at what rate (None: consecutive frames).

    In the methods `clip` is the clip's number, which the window carries; its T frames are at `frame_time_s`, seconds,
    None where unknown.
    """

    length: int
    frame_rate_hz: float | None

    def drawn(
        self, clip: int, clip_id: str, frame_time_s: Times | None, n_frames: int, *, seed: int, epoch: int
    ) -> Window:
        """The one window that (seed, epoch, clip id) draws."""
        _, draw, place = draws(seed, epoch, clip_id)
        start_s = random_start_s(
            frame_time_s, n_frames, length=self.length, frame_rate_hz=self.frame_rate_hz, uniform=place
        )
        return self._at(start_s, clip, frame_time_s, n_frames, draw)

    def spread(
        self, clip: int, clip_id: str, frame_time_s: Times | None, n_frames: int, *, count: int | None
    ) -> list[Window]:
        """Windows spread evenly over the clip (`echofm.window.even_starts_s`), each with a draw of its own."""
        starts_s = even_starts_s(
            frame_time_s, n_frames, length=self.length, frame_rate_hz=self.frame_rate_hz, count=count
        )
        return [
            self._at(start_s, clip, frame_time_s, n_frames, draws(0, number, clip_id)[1])
            for number, start_s in enumerate(starts_s)
        ]

    def showing(
        self, frame: int, clip: int, clip_id: str, frame_time_s: Times | None, n_frames: int
    ) -> Iterator[tuple[int, Window]]:
        """(place, window): every window that shows a frame at that place of its own. Some run past the clip's end."""
        clock_T = np.arange(n_frames) if frame_time_s is None else frame_time_s - frame_time_s[0]
        if frame_time_s is None or self.frame_rate_hz is None:
            starts_s = clock_T[frame::-1][: self.length].astype(np.float64)
        else:
            starts_s = clock_T[frame] - np.arange(self.length) / self.frame_rate_hz
        for place, start_s in enumerate(starts_s.tolist()):
            # Differences of times that are equal may come out a rounding error below zero.
            if start_s > -1e-9:
                draw = draws(0, place, clip_id)[1]
                yield place, self._at(max(0.0, start_s), clip, frame_time_s, n_frames, draw)

    def _at(self, start_s: float, clip: int, frame_time_s: Times | None, n_frames: int, draw: int) -> Window:
        indices_L, valid_L = window_indices(
            frame_time_s, n_frames, length=self.length, frame_rate_hz=self.frame_rate_hz, start_s=start_s
        )
        time_L = np.full(self.length, np.nan) if frame_time_s is None else window_time_s(frame_time_s, indices_L)
        return Window(clip=clip, indices_L=indices_L, valid_L=valid_L, frame_time_s_L=time_L, draw=draw)


def read_windows(shards: ShardSet, windows: Sequence[Window]) -> ClipBatch:
    """The windows' frames, read from the tars straight into one batch."""
    records = [shards.records[window.clip] for window in windows]
    # One size and one number of channels in the whole folder: checked when it was opened.
    video_BLCHW = np.empty((len(windows), len(windows[0].indices_L), *records[0].shape_TCHW[1:]), np.uint8)
    for window, video_LCHW in zip(windows, video_BLCHW):
        shards.read_frames(window.clip, window.indices_L, video_LCHW)
    sectors = [shards.sector_HW(window.clip) for window in windows]
    ids = [(record.clip_id, record.meta.patient_id) for record in records]
    return _batch(windows, video_BLCHW, sectors, ids)


def cut_windows(clip: Clip, windows: Sequence[Window]) -> ClipBatch:
    """The same for windows of one clip in memory."""
    video_BLCHW = clip.frames_TCHW[np.stack([window.indices_L for window in windows])]
    return _batch(
        windows, video_BLCHW, [clip.sector_HW] * len(windows), [(clip.clip_id, clip.patient_id)] * len(windows)
    )


def _batch(
    windows: Sequence[Window],
    video_BLCHW: npt.NDArray[np.uint8],
    sectors: Sequence[npt.NDArray[np.bool_]],
    ids: Sequence[tuple[str, str]],
) -> ClipBatch:
    return ClipBatch(
        # Models take channels before time; a view costs nothing, and with one channel it is contiguous.
        video_BCTHW=torch.from_numpy(video_BLCHW).transpose(1, 2),
        sector_BHW=torch.from_numpy(np.stack(sectors)),
        valid_BT=torch.from_numpy(np.stack([window.valid_L for window in windows])),
        frame_time_s_BT=torch.from_numpy(np.stack([window.frame_time_s_L for window in windows])),
        draw_B=torch.tensor([window.draw for window in windows], dtype=torch.int64),
        clip_ids=[clip_id for clip_id, _ in ids],
        patient_ids=[patient_id for _, patient_id in ids],
    )


def rebatched(batches: Iterable[ClipBatch], size: int) -> Iterator[ClipBatch]:
    """The same windows in batches of `size`; the last may be smaller."""
    held: list[ClipBatch] = []
    for batch in batches:
        held.append(batch)
        while sum(map(len, held)) >= size:
            whole = joined(held)
            yield whole[:size]
            held = [whole[size:]] if len(whole) > size else []
    if held:
        yield joined(held)


def joined(batches: Sequence[ClipBatch]) -> ClipBatch:
    """Batches of one shape after one another. Raises EchofmError where the shapes differ."""
    if len(batches) == 1:
        return batches[0]
    shapes = {tuple(batch.video_BCTHW.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        raise EchofmError(f"clips of {len(shapes)} sizes cannot share a batch; bring them to one with echofm.conform")
    return ClipBatch(
        **{
            name: torch.cat([getattr(batch, name) for batch in batches])
            for name in ("video_BCTHW", "sector_BHW", "valid_BT", "frame_time_s_BT", "draw_B")
        },
        clip_ids=[clip_id for batch in batches for clip_id in batch.clip_ids],
        patient_ids=[patient_id for batch in batches for patient_id in batch.patient_ids],
    )
