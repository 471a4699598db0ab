"""Which split a patient belongs to, where the data set does not say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from echofm.errors import EchofmError

SPLITS = ("train", "val", "test")


def split_of(patient_id: str, *, seed: int = 0, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> str:
    """ "train", "val" or "test" of a patient: a hash of the id under the seed, so adding data never moves anyone.

    patient_id: the keyed hash (`IdKey.patient`); all clips of a patient land in one split.
    fractions: of train, val and test; they sum to 1. The shares hold in expectation, not exactly.
    Raises EchofmError on fractions that are no such three numbers.
    """
    # Written so that NaN fails too.
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise EchofmError(f"split fractions are {tuple(fractions)}; give three that sum to 1, e.g. 0.8 0.1 0.1")
    position = position_of(patient_id, seed=seed)
    if position < fractions[0]:
        return "train"
    # Compared with the far end, so that rounding in the sum never makes a split of share 0 reachable.
    return "test" if position >= 1 - fractions[2] else "val"


def position_of(patient_id: str, *, seed: int = 0) -> float:
    """Where in [0, 1) a patient stands by the hash that draws splits."""
    digest = hashlib.sha256(f"echofm split {seed}\0{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
