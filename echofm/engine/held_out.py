"""The windows of a split that a training is measured on, the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.shards.carry import Carry, held_by
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet


def held_out(shards: ShardSet, contract: InputContract, *, clips: int, carry: Sequence[Carry] = ()) -> ClipBatch:
    """The middle windows of clips evenly spread over a split, on the CPU. Raises EchofmError where it is empty.

    carry: as for a loader, but what no clip of the split holds is left out.
    """
    if not len(shards):
        raise EchofmError(
            "the shards have no val clips for the monitor; write them with some "
            "(`echofm shards --split-by hash` where the set's own splits have none), or switch the monitor off: "
            "--monitor.every 0"
        )
    indices = np.unique(np.linspace(0, len(shards) - 1, clips).round().astype(int))
    chosen = replace(shards, records=[shards.records[index] for index in indices])
    rate_hz, carry = contract.frame_rate_hz, held_by(shards, carry)
    windows = window_batches(
        chosen, frames=contract.frames, frame_rate_hz=rate_hz, windows_per_clip=1, batch=len(indices), carry=carry
    )
    return next(windows).to("cpu")
