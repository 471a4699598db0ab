"""Filter and judge: two models that saw different patients, so that a set filtered by one is judged by the other."""

from __future__ import annotations

import hashlib
from typing import Literal

Half = Literal["a", "b", "all"]
Role = Literal["filter", "judge", "single"]
HALF_OF: dict[Role, Half] = {"filter": "a", "judge": "b", "single": "all"}


def half_of(patient_id: str) -> Half:
    """Which half of the training patients a patient belongs to: a hash of the id, the same in every run and set."""
    digest = hashlib.sha256(f"echofm re-identification half\0{patient_id}".encode()).digest()
    return "a" if digest[0] < 128 else "b"


def seed_of(role: Role, seed: int) -> int:
    """The seed of a role's model: filter and judge begin at different weights under one `--seed`."""
    return 2 * seed + (role == "judge")


def why_not_apart(one: tuple[Half, int], other: tuple[Half, int]) -> str | None:
    """Why two models, each (half, seed), are not separate; None where they are."""
    if "all" in (one[0], other[0]):
        return "one of them was fitted on all training patients, so the other saw a part of the same"
    if one[0] == other[0]:
        return f"both were fitted on half {one[0]} of the training patients"
    if one[1] == other[1]:
        return f"both began from seed {one[1]}"
    return None
