"""FitOptions: how heads are trained, the same in Python as on the command line; and who is fitted on which patients.

A filter and a judge see different patients, so that a set filtered by one is judged by the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Suppress

from echofm.errors import EchofmError

Half = Literal["a", "b", "all"]
Role = Literal["filter", "judge", "single"]
Loss = Literal["supcon", "siamese"]
Positives = Literal["view", "patient"]
HALF_OF: dict[Role, Half] = {"filter": "a", "judge": "b", "single": "all"}
WIDTH = 128
"""Features out, as in the published re-identification models."""
BINS = 16
"""Phases of a cycle: at 75 beats a minute one every 50 ms, finer than a token of four frames sees."""


def half_of(patient_id: str) -> Half:
    """Which half of the training patients a patient belongs to: a hash of the id, the same in every run and set."""
    digest = hashlib.sha256(f"echofm re-identification half\0{patient_id}".encode()).digest()
    return "a" if digest[0] < 128 else "b"


def seed_of(role: Role, seed: int) -> int:
    """The seed of a role's model: filter and judge begin at different weights under one `--seed`."""
    return 2 * seed + (role == "judge")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How heads are trained.

    Of components, shrink and directions all combinations are tried as linear discriminants, in closed form; from the
    best, heads of every `hidden` and `weight_decay` are trained. init "random" leaves the discriminants out.
    """

    loss: Literal["supcon", "siamese"] = "supcon"
    """Supervised contrastive (arXiv 2004.11362), or the published pairs (arXiv 2406.00808)."""
    init: Literal["discriminants", "random"] = "discriminants"
    """Where training begins: at linear discriminants in closed form, or at random."""
    positives: Literal["view", "patient"] = "view"
    """What the loss brings together: a patient's clips of one view, or those of different views as well."""
    components: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Principal components of the features that the head reads; several are tried on the validation patients."""
    shrink: Suppress[tuple[float, ...]] = (0.001, 0.01, 0.1, 0.3)
    """As in `discriminants`."""
    directions: Suppress[tuple[int, ...]] = (8, 16, 32, 48, 64, 128)
    """As in `discriminants`."""
    hidden: tuple[int, ...] = (0, 256)
    """Width of the network beside the linear map, 0 for none; several are tried."""
    weight_decay: tuple[float, ...] = (0.1,)
    """Of AdamW; several are tried."""
    dropout: float = 0.1
    """Part of the components left out at random in training."""
    samples_per_patient: int = 2
    """In a batch, from different clips where there are."""
    patients_per_batch: Suppress[int] = 128
    """Or views of a patient."""
    steps: int = 600
    """At most; the best of twenty looks on the way is kept."""
    learning_rate: Suppress[float] = 5e-4
    temperature: Suppress[float] = 0.1
    bins: Suppress[int] = BINS
    seed: int = 0
    """Filter and judge of one seed belong together."""

    def __post_init__(self) -> None:
        if min(*self.components, self.steps, self.bins) < 1 or min(self.hidden) < 0 or self.samples_per_patient < 2:
            raise EchofmError(
                "components, steps and bins must be positive, hidden not negative, samples_per_patient at least 2"
            )
        if not 0 <= self.dropout < 1:
            raise EchofmError("dropout must lie from 0 to below 1")
        if not all(0 < shrink <= 1 for shrink in self.shrink) or not all(1 <= d <= WIDTH for d in self.directions):
            raise EchofmError(f"shrink must lie above 0 and up to 1, directions from 1 to {WIDTH}")

    @property
    def tries(self) -> int:
        """Heads that are trained at each level."""
        begins = 1 if self.init == "discriminants" else len(self.components)
        return begins * len(self.hidden) * len(self.weight_decay)
