"""The one source of randomness in reading: hashes of (seed, epoch, clip id)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


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
