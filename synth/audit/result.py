"""AuditResult: everything an audit found, as audit.json and samples.parquet hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import pydantic

from echofm.config import Recipe
from echofm.errors import EchofmError
from echofm.intervals import Estimate

SCHEMA_VERSION = 1
Part = Annotated[float, pydantic.Field(ge=0, le=1)]


class SetSummary(Recipe):
    """One of the three sets."""

    clips: int
    patients: int | None
    """None for a synthetic set, which has no patients."""


class FlaggedPart(Recipe):
    """What part of the synthetic clips is closer to the training set than new patients are."""

    clips: int
    """Number of synthetic clips with p <= alpha."""
    fraction: Estimate
    """Bootstrap over held-out patients and synthetic clips: it carries the null's own uncertainty."""
    clopper_pearson: Estimate
    """As if the null were known exactly."""
    excess: float
    """fraction - alpha."""
    excess_p: Part
    """Chance of so many flags or more with nothing memorised (beta-binomial)."""
    decided: int
    """Number of clips flagged by Benjamini-Hochberg, q <= alpha: the ones to remove."""
    smallest_detectable_share: Part
    """Copies that are a smaller part of the set than this are beyond Benjamini-Hochberg with this held-out set."""


class Attacks(Recipe):
    """Attacks beyond distance. None: not enough patients for it; `notes` says so."""

    membership_auc: Estimate
    membership_tpr_at_1_percent_fpr: Estimate
    closer_to_train: Estimate
    """0.5 with nothing memorised."""
    distance_ratio_flagged: Estimate
    """Part with a distance ratio below the null's alpha quantile; alpha with nothing memorised."""
    inauthentic: Part
    inauthentic_holdout: Part
    """The same of the held-out clips: what to expect with nothing memorised."""
    naming_attack: Estimate | None
    naming_control: Estimate | None
    naming_risk: float | None
    naming_informative: bool | None


class CanaryRecall(Recipe):
    """What the audit caught of one kind of planted copy."""

    kind: str
    strength: float
    planted: int
    recall: Estimate
    right_patient: Part


class Exposure(Recipe):
    """How the flagged clips fall on training patients."""

    patients_nearest: int
    """Training patients that are nearest to some synthetic clip."""
    patients_flagged: int
    """Training patients that are nearest to a clip flagged by Benjamini-Hochberg."""
    most: list[tuple[str, int, float]]
    """Hashed patient, flagged clips nearest to it, highest similarity; the twenty most exposed."""


class AuditResult(Recipe):
    """An audit, whole. Written as audit.json; `schema_version` rises when a field changes its meaning."""

    schema_version: Literal[1] = 1
    verdict: str
    """What was measured, with its interval and power, in one paragraph. Never a clean bill."""
    sees_copies: bool | None
    """Whether exact and re-encoded copies are caught; None where no canaries were planted."""
    alpha: float
    rule: Literal["conformal", "published"]
    metric: Literal["cosine", "pearson"]
    seed: int
    encoder_digest: str
    judge_digest: str | None
    train: SetSummary
    holdout: SetSummary
    synthetic: SetSummary
    flagged: FlaggedPart
    published_rule_flags: Part
    """What the published threshold (95th percentile of train -> held-out) would flag; biased, for comparison."""
    attacks: Attacks
    power: list[CanaryRecall]
    exposure: Exposure
    notes: list[str]

    def save(self, folder: str | Path, samples: pd.DataFrame) -> None:
        """Write audit.json and samples.parquet. Raises EchofmError where the folder cannot be written."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "audit.json").write_text(self.to_json(), encoding="utf-8")
            samples.to_parquet(folder / "samples.parquet", index=False)
        except OSError as error:
            raise EchofmError(f"the audit cannot be written ({error.strerror}); check --out") from None
