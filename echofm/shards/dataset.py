"""ClipDataset: shards for a training loop of one's own, as PyTorch's data sets are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from echofm.errors import EchofmError
from echofm.shards.read import ShardSet
from echofm.shards.windows import Windowing, read_windows


class ClipDataset(Dataset[dict[str, Any]]):
    """One window of each clip, with its labels; made for `torch.utils.data.DataLoader`, shuffled there.

    labels: those wanted; clips without all of them are left out. frames: of a window. frame_rate_hz: None takes
    consecutive frames. random: a window drawn from (seed, epoch, clip id), `set_epoch` saying which epoch it is; else
    the clip's middle one.

    An item: video_CTHW float32 in [0, 1], clip_id, patient_id, view ("" where unknown), and each label under its name,
    a number as float, a word as text. Raises EchofmError where no clip has the labels.
    """

    def __init__(
        self,
        shards: ShardSet,
        *,
        frames: int,
        frame_rate_hz: float | None = None,
        labels: Sequence[str] = (),
        random: bool = False,
        seed: int = 0,
    ) -> None:
        self._shards, self._labels, self._random, self._seed, self._epoch = shards, tuple(labels), random, seed, 0
        self._windowing = Windowing(length=frames, frame_rate_hz=frame_rate_hz)
        held = [set(record.meta.labels) for record in shards.records]
        self._kept = [index for index, names in enumerate(held) if set(labels) <= names]
        if not self._kept:
            there = ", ".join(sorted(set().union(*held))) if held else "none, as they are empty"
            raise EchofmError(f"no clip of the shards has the labels {', '.join(labels)}; they have: {there}")

    def set_epoch(self, epoch: int) -> None:
        """Draw other windows; with persistent workers call it before they start."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> dict[str, Any]:
        index = self._kept[number]
        record, time_s = self._shards.records[index], self._shards.frame_time_s(index)
        where = index, record.clip_id, time_s, record.n_frames
        if self._random:
            window = self._windowing.drawn(*where, seed=self._seed, epoch=self._epoch)
        else:
            window = self._windowing.spread(*where, count=1)[0]
        video_CTHW = read_windows(self._shards, [window]).to(torch.device("cpu")).video_BCTHW[0]
        meta = record.meta
        labels = {name: _plain(meta.labels[name]) for name in self._labels}
        about = {"clip_id": meta.clip_id, "patient_id": meta.patient_id, "view": meta.view or ""}
        return {"video_CTHW": video_CTHW, **about, **labels}


def _plain(value: float | int | str) -> float | str:
    """Numbers as floats, so that batches of them are of one type."""
    return value if isinstance(value, str) else float(value) if math.isfinite(value) else math.nan
