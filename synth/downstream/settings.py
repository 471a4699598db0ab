"""DownstreamSettings: how a downstream task is learnt. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from echofm.errors import EchofmError

Task = Literal["segmentation", "phase", "view"]


@dataclass(frozen=True, kw_only=True)
class DownstreamSettings:
    """The same for every arm; nothing is chosen by any figure."""

    shares: Annotated[tuple[float, ...], tyro.conf.arg(metavar="[PERCENT ...]")] = (5, 20, 100)
    """Parts of the real training patients, each alone and with all synthetic frames."""
    seeds: int = 3
    """Trainings of each arm: other weights, draws and, of the parts, other patients."""
    steps: int = 300
    """Updates of each training."""
    batch: int = 16
    """Frames of an update, half of them synthetic where there are both."""

    def check(self) -> None:
        """Raises EchofmError naming what cannot be."""
        if not self.shares or not all(0 < share <= 100 for share in self.shares):
            raise EchofmError("--shares are percents of the real patients, above 0 and up to 100")
        if min(self.seeds, self.steps) < 1 or self.batch < 2:
            raise EchofmError("--seeds and --steps are 1 or more, --batch 2 or more")
