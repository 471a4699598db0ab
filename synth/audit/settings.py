"""AuditSettings: how clips are compared and flagged; the same in Python as on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from tyro.conf import Suppress, arg

from echofm.errors import EchofmError

Level = Literal["clip", "frame", "motion"]
LEVELS: tuple[Level, ...] = get_args(Level)
Metric = Literal["cosine", "pearson"]
IndexKind = Literal["auto", "exact", "ivfpq"]


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How clips are compared, and what is flagged."""

    alpha: float = 0.05
    """Level of the p-values and of the false flags among the flagged."""
    decide: Literal["clip", "frame", "motion", "any"] = "clip"
    """The level that decides; any: all of them with Bonferroni's correction."""
    rule: Literal["conformal", "published"] = "conformal"
    """What flags a clip for removal; the published rule is biased and offered for comparison."""
    canaries: int = 50
    """Training clips that are planted as copies, at most; 0 plants none and leaves the power unknown."""
    duplicates: Literal["auto", "on", "off"] = "auto"
    """Look for the training recordings themselves by their speckle; auto: up to 20,000 clips in all."""
    strips: int = 20
    """Closest kept clips shown after every clip to be removed; 0 keeps all pixels out of the report."""
    seed: int = 0
    """Of the canaries and the bootstrap."""
    levels: Annotated[tuple[Level, ...], arg(metavar="LEVEL")] = ()
    """Of clip, frame, motion, those to compare; by default all that the features offer."""
    frames: int = 4
    """Frames (token times) of each clip compared at frame level."""
    index: IndexKind = "auto"
    """auto: exact up to a million training vectors, above by IVF-PQ with exact re-ranking, its recall stated."""
    metric: Suppress[Metric] = "cosine"
    """Similarity of two embeddings; in Python alone."""

    def check(self) -> None:
        """Raises EchofmError naming what is out of range."""
        if not 0 < self.alpha < 1:
            raise EchofmError(f"--alpha {self.alpha:g} is no probability between 0 and 1")
        if self.seed < 0:
            raise EchofmError(f"--seed {self.seed} is negative; give 0 or more")
        if self.frames < 1:
            raise EchofmError(f"--frames {self.frames}: give 1 or more")
