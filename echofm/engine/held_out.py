"""HeldOut: the windows of a split that a training is measured on, the same each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from echofm.clip import Clip, ClipBatch
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet
from echofm.window import even_starts_s, window_indices


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """batch: on the CPU, values in [0, 1]. phase_BF: true phase of each frame in [0, 1), NaN where unknown."""

    batch: ClipBatch
    phase_BF: torch.Tensor

    @classmethod
    def of(cls, shards: ShardSet, contract: InputContract, *, clips: int) -> HeldOut:
        """The middle window of clips evenly spread over a split. Raises EchofmError where it is empty."""
        if not len(shards):
            raise EchofmError(
                "the shards have no val clips for the monitor; write them with some "
                "(`echofm shards --fractions 0.8 0.1 0.1`), or switch the monitor off: --monitor.every 0"
            )
        indices = np.unique(np.linspace(0, len(shards) - 1, clips).round().astype(int))
        chosen = [shards.clip(int(index)) for index in indices]
        length, rate_hz = contract.frames, contract.frame_rate_hz
        windows = window_batches(chosen, frames=length, frame_rate_hz=rate_hz, windows_per_clip=1, batch=len(chosen))
        phases = [_phase_of_window(clip, length=length, rate_hz=rate_hz) for clip in chosen]
        return cls(batch=next(windows).to("cpu"), phase_BF=torch.stack(phases))


def _phase_of_window(clip: Clip, *, length: int, rate_hz: float | None) -> torch.Tensor:
    """(F,) true phase of the frames of the clip's middle window; NaN where unknown."""
    if clip.phase_T is None:
        return torch.full((length,), math.nan)
    time_s, count = clip.frame_time_s, len(clip.frames_TCHW)
    (start_s,) = even_starts_s(time_s, count, length=length, frame_rate_hz=rate_hz, count=1)
    frames_L, _ = window_indices(time_s, count, length=length, frame_rate_hz=rate_hz, start_s=start_s)
    return torch.from_numpy(clip.phase_T[frames_L])
