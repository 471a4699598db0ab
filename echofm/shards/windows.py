"""Windows as batches: chosen frames of clips, read or cut, stacked and joined. Draws: hashes of (seed, epoch, clip id).

B windows, L frames, T frames of the clip, C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip, ClipBatch
from echofm.errors import EchofmError
from echofm.shards.carry import Carry, Held, carried, of_clip, of_shards
from echofm.shards.read import ShardSet
from echofm.shards.sample import ARRAYS
from echofm.window import Times, Windows


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
        _, draw, position = draws(seed, epoch, clip_id)
        windows = self._of(frame_time_s, n_frames)
        return _window(clip, windows, windows.random_start_s(position), draw)

    def spread(
        self, clip: int, clip_id: str, frame_time_s: Times | None, n_frames: int, *, count: int | None
    ) -> list[Window]:
        """Windows spread evenly over the clip (`Windows.even_starts_s`), each with a draw of its own."""
        windows = self._of(frame_time_s, n_frames)
        starts_s = enumerate(windows.even_starts_s(count))
        return [_window(clip, windows, start_s, draws(0, number, clip_id)[1]) for number, start_s in starts_s]

    def showing(
        self, frame: int, clip: int, clip_id: str, frame_time_s: Times | None, n_frames: int
    ) -> Iterator[tuple[int, Window]]:
        """(position, window): every window that shows a frame, and where in it. Some run past the clip's end."""
        windows = self._of(frame_time_s, n_frames)
        for position, start_s in enumerate(windows.starts_showing_s(frame)):
            # Differences of times that are equal may come out a rounding error below zero.
            if start_s > -1e-9:
                yield position, _window(clip, windows, max(0.0, start_s), draws(0, position, clip_id)[1])

    def _of(self, frame_time_s: Times | None, n_frames: int) -> Windows:
        return Windows(frame_time_s, n_frames, length=self.length, frame_rate_hz=self.frame_rate_hz)


def _window(clip: int, windows: Windows, start_s: float, draw: int) -> Window:
    indices_L, valid_L = windows.indices(start_s)
    return Window(clip=clip, indices_L=indices_L, valid_L=valid_L, frame_time_s_L=windows.time_s(indices_L), draw=draw)


def read_windows(shards: ShardSet, windows: Sequence[Window], *, carry: Sequence[Carry] = ()) -> ClipBatch:
    """The windows' frames, read from the tars straight into one batch, with what it shall carry beside them."""
    # One size and one number of channels in the whole folder: checked when it was opened.
    content = shards.manifest.content
    shape, dtype = shards.records[windows[0].clip].arrays[content].shape[1:], ARRAYS[content][0]
    video_BLCHW = np.empty((len(windows), len(windows[0].indices_L), *shape), dtype)
    for window, video_LCHW in zip(windows, video_BLCHW):
        shards.read_frames(window.clip, window.indices_L, video_LCHW)
    return _batch(windows, video_BLCHW, [of_shards(shards, window.clip) for window in windows], carry)


def cut_windows(clip: Clip, windows: Sequence[Window], *, carry: Sequence[Carry] = ()) -> ClipBatch:
    """The same for windows of one clip in memory."""
    video_BLCHW = clip.frames_TCHW[np.stack([window.indices_L for window in windows])]
    return _batch(windows, video_BLCHW, [of_clip(clip)] * len(windows), carry)


def _batch(
    windows: Sequence[Window], video_BLCHW: npt.NDArray[Any], clips: Sequence[Held], carry: Sequence[Carry]
) -> ClipBatch:
    return ClipBatch(
        # Models take channels before time; a view costs nothing, and with one channel it is contiguous.
        video_BCTHW=torch.from_numpy(video_BLCHW).transpose(1, 2),
        sector_BHW=torch.from_numpy(np.stack([clip.sector_HW for clip in clips])),
        valid_BT=torch.from_numpy(np.stack([window.valid_L for window in windows])),
        frame_time_s_BT=torch.from_numpy(np.stack([window.frame_time_s_L for window in windows])),
        draw_B=torch.tensor([window.draw for window in windows], dtype=torch.int64),
        clip_ids=[clip.about.clip_id for clip in clips],
        patient_ids=[clip.about.patient_id for clip in clips],
        **carried(carry, clips, [window.indices_L for window in windows]),
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
    held = [batch.held() for batch in batches]
    return ClipBatch(**{name: _after_one_another([each[name] for each in held]) for name in held[0]})


def _after_one_another(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else [item for part in parts for item in part]


def draws(seed: int, epoch: int, clip_id: str) -> tuple[int, int, float]:
    """A clip's random numbers in one epoch: its key in the order, its `draw`, its window's position in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{clip_id}".encode(), digest_size=24, person=b"echofm loader").digest()
    order, draw, position = (int.from_bytes(digest[start : start + 8], "little") for start in (0, 8, 16))
    # int64 holds 63 bits, a float in [0, 1) 53.
    return order, draw >> 1, (position >> 11) / 2**53


def epoch_order(clip_ids: Sequence[str], *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """A shuffle of the clips that does not depend on the order in which they are given."""
    keys = np.array([draws(seed, epoch, clip_id)[0] for clip_id in clip_ids], np.uint64)
    return np.argsort(keys, kind="stable")
