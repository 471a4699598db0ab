"""Batches of windows from shards: for training in a seeded order, for embedding in the order of the clips.

The clips of global batch k, their windows and their draws are functions of (seed, epoch, clip id) alone. Neither the
number of ranks and workers nor the cut of the clips into tars changes them, and any step is reached without the ones
before it. B clips, L frames, C channels, H rows, W columns.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from echofm.clip import Clip, ClipBatch
from echofm.errors import EchofmError
from echofm.shards.carry import Carry, check_carry
from echofm.shards.read import ShardSet
from echofm.shards.windows import Window, Windowing, cut_windows, epoch_order, read_windows, rebatched

_NO_SHARED_MEMORY = (
    "a loader's worker found too little shared memory (/dev/shm) for its batches; make it larger (docker run "
    "--shm-size=8g), or take fewer workers: --fit.workers 0 needs none"
)
_LOST_WORKER = (
    "a loader's worker was killed, as when memory runs out; take fewer workers (--fit.workers) or a smaller batch"
)


def train_batches(
    shards: ShardSet,
    *,
    split: str = "train",
    frames: int,
    frame_rate_hz: float | None,
    batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    start_step: int = 0,
    carry: Sequence[Carry] = (),
) -> Iterator[ClipBatch]:
    """This rank's part of every global batch, for ever, from global batch `start_step` on.

    Each epoch shuffles the clips anew and leaves out the last, incomplete batch. One window is drawn per clip, every
    start equally likely; a clip shorter than the window is looped.

    Parameters
    ----------
    frames: L. frame_rate_hz: of the window; None takes consecutive frames.
    batch: clips per GLOBAL batch; rank r of `world` gets the r-th contiguous part.
    workers: processes that read ahead; 0 reads in this one. The batches are the same.
    carry: what the batches hold beside the video (`ClipBatch`): "labels", "view", "mask", "emptying", "phase", and of a
        phantom "paired", "clean", "displacement" and "velocity".

    Raises EchofmError where the split has fewer clips than one batch, the ranks do not divide it, or the shards do not
    hold what is to be carried.
    """
    chosen = shards.split(split)
    check_carry(carry, chosen)
    _check_batch(len(chosen), split=split, batch=batch, world=world)
    windowing = Windowing(length=frames, frame_rate_hz=frame_rate_hz)
    steps = _TrainSteps(chosen, windowing, batch=batch, rank=rank, world=world, seed=seed, carry=carry)
    return _loaded(steps, order=itertools.count(start_step), workers=workers)


def window_batches(
    clips: ShardSet | Iterable[Clip],
    *,
    frames: int,
    frame_rate_hz: float | None,
    windows_per_clip: int | None = 1,
    batch: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    carry: Sequence[Carry] = (),
) -> Iterator[ClipBatch]:
    """Windows in the order of the clips, evenly spread over each; for embedding and evaluation.

    A clip's windows follow one another, under its id; a batch may hold windows of several clips and the last may be
    smaller. Rank r gets clips r, r + world, ... `draw_B` is a function of the clip id and the window's number.

    Parameters
    ----------
    clips: shards, or clips of one size (`conform` gives it). `workers` are for shards alone.
    carry: as of `train_batches`.
    windows_per_clip: at most; None: as many as cover the whole clip. Clips with fewer starts give fewer windows.
    """
    windowing = Windowing(length=frames, frame_rate_hz=frame_rate_hz)
    check_carry(carry, clips if isinstance(clips, ShardSet) else None)
    if isinstance(clips, ShardSet):
        order = range(rank, len(clips), world)
        per_clip = _loaded(_ClipWindows(clips, windowing, windows_per_clip, carry), order=order, workers=workers)
    else:
        mine = itertools.islice(clips, rank, None, world)
        per_clip = (_windows_of(clip, windowing, windows_per_clip, carry) for clip in mine)
    yield from rebatched(per_clip, batch)


class _TrainSteps:
    """Global step -> this rank's part of its batch; what a DataLoader calls a map-style data set."""

    def __init__(
        self,
        shards: ShardSet,
        windowing: Windowing,
        *,
        batch: int,
        rank: int,
        world: int,
        seed: int,
        carry: Sequence[Carry],
    ) -> None:
        self._shards, self._windowing, self._seed, self._carry = shards, windowing, seed, carry
        self._batch, self._rank, self._world = batch, rank, world
        self._known_order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> ClipBatch:
        epoch, position = divmod(step, len(self._shards) // self._batch)
        share = self._batch // self._world
        first = position * self._batch + self._rank * share
        chosen = self._order(epoch)[first : first + share].tolist()
        return read_windows(self._shards, [self._window(index, epoch) for index in chosen], carry=self._carry)

    def _window(self, index: int, epoch: int) -> Window:
        record, time_s = self._shards.records[index], self._shards.frame_time_s(index)
        return self._windowing.drawn(index, record.clip_id, time_s, record.n_frames, seed=self._seed, epoch=epoch)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._known_order[0] != epoch:
            ids = [record.clip_id for record in self._shards.records]
            self._known_order = epoch, epoch_order(ids, seed=self._seed, epoch=epoch)
        return self._known_order[1]


class _ClipWindows:
    """Clip number -> its windows, evenly spread."""

    def __init__(self, shards: ShardSet, windowing: Windowing, count: int | None, carry: Sequence[Carry]) -> None:
        self._shards, self._windowing, self._count, self._carry = shards, windowing, count, carry

    def __getitem__(self, index: int) -> ClipBatch:
        record, time_s = self._shards.records[index], self._shards.frame_time_s(index)
        windows = self._windowing.spread(index, record.clip_id, time_s, record.n_frames, count=self._count)
        return read_windows(self._shards, windows, carry=self._carry)


def _windows_of(clip: Clip, windowing: Windowing, count: int | None, carry: Sequence[Carry]) -> ClipBatch:
    windows = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=count)
    return cut_windows(clip, windows, carry=carry)


class _Batches(Protocol):
    def __getitem__(self, number: int) -> ClipBatch: ...


class _ErrorsAsValues:
    """Hands an error over as a value: a DataLoader would wrap one that is raised into pages of traceback.

    A worker's batch is put into shared memory here. Where the loader does it, in a thread of the worker, a failure is
    only printed, and the trainer waits for that batch for ever.
    """

    def __init__(self, batches: _Batches) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> ClipBatch | EchofmError:
        try:
            batch = self._batches[number]
            return batch if get_worker_info() is None else batch.share_memory()
        except EchofmError as error:
            return error
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            return EchofmError(_NO_SHARED_MEMORY)


def _loaded(batches: _Batches, *, order: Iterable[int], workers: int) -> Iterator[ClipBatch]:
    """batches[k] for every k of `order`, in order, read ahead by `workers` processes."""
    loader = DataLoader(
        cast("Dataset[ClipBatch | EchofmError]", _ErrorsAsValues(batches)),
        batch_size=None,
        sampler=order,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        # A worker sees that its trainer was killed by a change of its parent's id. Under a fork server, the default
        # from Python 3.14 on, the parent is the server, which waits for the worker: both would stay for ever.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_outlive_sigterm,
        # Its own generator: the workers' seeds must not be drawn from the training's random numbers.
        generator=torch.Generator(),
    )
    loaded = iter(loader)
    try:
        while (batch := _next(loaded)) is not None:
            if isinstance(batch, EchofmError):
                raise batch
            yield batch
    finally:
        # Not left to the garbage collector, which an error's traceback keeps from it: at Python's exit the workers
        # would be ended by SIGTERM, which they outlive, and waited for.
        getattr(loaded, "_shutdown_workers", lambda: None)()


def _next(loaded: Iterator[Any]) -> ClipBatch | EchofmError | None:
    """The next batch, or in one line why a worker that was killed has none; None at the end."""
    try:
        return next(loaded, None)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        is_full = "Bus error" in str(error) or "shared memory" in str(error)
        return EchofmError(_NO_SHARED_MEMORY if is_full else _LOST_WORKER)


def _outlive_sigterm(_: int) -> None:
    """Batch systems send SIGTERM to every process of a job; the trainer then ends its step, and needs its loaders.

    They end when it closes them or is gone.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    return batch


def _check_batch(n_clips: int, *, split: str, batch: int, world: int) -> None:
    if batch < 1 or batch % world:
        fit = max(world, batch // world * world)
        raise EchofmError(f"a global batch of {batch} clips is not shared evenly by {world} ranks; use {fit}")
    if n_clips < batch:
        fit = n_clips // world * world
        fix = f"use a batch of {fit} or less" if fit else f"use {max(n_clips, 1)} rank(s) or more data"
        raise EchofmError(f"split {split!r} has {n_clips} clips, fewer than one global batch of {batch}; {fix}")
