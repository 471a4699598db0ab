"""EvaluateSettings: what an evaluation may vary. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from echofm.errors import EchofmError

VideoNetwork = Literal["small", "r2plus1d_18", "none"]


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How sets are compared."""

    second: Annotated[str, tyro.conf.arg(metavar="ENCODER")] = "timm:resnet18?frames=16&size=64&random"
    """A second encoder, that nobody trained on these patients; by default a random network, which needs no download."""
    alpha: float = 0.05
    """Chance of a false alarm: of fidelity over all its spaces together, and of each audit."""
    canaries: int = 50
    """Training clips planted as copies in each audit; 0 leaves its power unknown."""
    draws: int = 1000
    """Draws of the kernel distances' intervals."""
    video_network: VideoNetwork = "small"
    """Trained from scratch on each set to tell EF, three times, beside as many real clips: some 10^5 weights,
    torchvision's R(2+1)D-18, or none."""
    video_steps: int = 300
    """Of each of these trainings, of 16 clips."""
    seed: int = 0
    """Of intervals, shuffling, halves and trainings."""

    def check(self) -> None:
        """Raises EchofmError naming what cannot be."""
        if self.draws < 100:
            raise EchofmError(f"--draws {self.draws} are too few for a 95 % interval; give 100 or more")
        if not 0 < self.alpha < 1:
            raise EchofmError(f"--alpha {self.alpha:g} is no probability; give one between 0 and 1")
        if self.video_steps < 1:
            raise EchofmError(f"--video-steps {self.video_steps}; give 1 or more, or --video-network none")
        if self.canaries < 0:
            raise EchofmError(f"--canaries {self.canaries}; give 0 or more")
