"""AuditResult: everything an audit found, as audit.json holds it. docs/audit.md documents every field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import pydantic

from echofm.atomic import whole_files
from echofm.errors import os_errors_as
from echofm.intervals import Estimate
from echofm.schema import FrozenModel
from synth.audit.settings import Level

SCHEMA_VERSION = 2
Part = Annotated[float, pydantic.Field(ge=0, le=1)]


class SetSummary(FrozenModel):
    """One of the three sets."""

    name: str = ""
    """As given, its folder's own name; "" where a table was given."""
    clips: int
    patients: int | None
    """None for a synthetic set, which has no patients."""
    digest: str
    set_aside: int = 0
    """Files that could not be read, or are exact copies of another one of the set: they have no row."""


class FlaggedPart(FrozenModel):
    """What part of the synthetic clips is closer to the training set than new patients are."""

    clips: int
    fraction: Estimate
    """Bootstrap over held-out patients and synthetic clips: it carries the null's own uncertainty."""
    clopper_pearson: Estimate
    """As if the null were known exactly."""
    excess: float
    excess_p: Part
    """Chance of so many flags or more with nothing memorised (beta-binomial)."""
    decided: int
    """Number of clips flagged by the rule: by Benjamini-Hochberg those of q <= alpha."""
    smallest_detectable_share: Part
    """Copies that are a smaller part of the set than this are beyond Benjamini-Hochberg with this held-out set."""


class CanaryRecall(FrozenModel):
    """What the audit caught of one kind of planted copy."""

    kind: str
    strength: float
    planted: int
    recall: Estimate
    """Part with p <= alpha; Wilson interval."""
    recall_at_a_tenth: Estimate
    """Part with p <= alpha / 10: Benjamini-Hochberg flags these where a tenth of the set has such a p; copies that
    make up a tenth, and of which fewer are so close, need luck."""
    right_patient: Part
    """Part whose nearest training clip belongs to the patient copied."""


class LevelResult(FrozenModel):
    """One level: what of a clip was compared, and what came of it alone."""

    level: Level
    features: int
    vectors_per_clip: int
    """Frames compared of each clip at frame level; 1 elsewhere."""
    flagged: FlaggedPart
    published_rule_flags: Part
    """What the published threshold (95th percentile of train -> held-out) would flag; biased, for comparison."""
    power: list[CanaryRecall]
    search_recall: Part
    """Part of the nearest neighbours that the search finds; 1 where it is exact."""


class Attacks(FrozenModel):
    """Attacks beyond distance, at clip level. None: not enough patients for it; `notes` says so."""

    membership_auc: Estimate
    membership_tpr_at_1_percent_fpr: Estimate
    closer_to_train: Estimate
    distance_ratio_flagged: Estimate
    """Part with a distance ratio below the null's alpha quantile; alpha with nothing memorised."""
    inauthentic: Part
    inauthentic_holdout: Part
    naming_attack: Estimate | None
    naming_control: Estimate | None
    naming_risk: float | None
    naming_informative: bool | None


class DuplicateCount(FrozenModel):
    """Copies found by content and by speckle, without any encoder. None: not looked for."""

    exact: int
    perceptual: int | None
    """Synthetic clips that show the same recording as a training clip (echofm check), exact ones among them."""
    holdout: int = 0
    """Synthetic clips that show a held-out clip's recording: that set is then no null. By bytes where nobody looked."""
    train_holdout: int | None
    """Held-out clips that show the same recording as a training clip: the null is then too close."""


class Exposure(FrozenModel):
    """How the clips to remove fall on training patients."""

    patients_nearest: int
    patients_flagged: int
    clips_per_patient: list[int]
    """Of every training patient, how many synthetic clips it is nearest to, falling; patients hit by none left out."""
    most: list[tuple[str, int, float]]
    """Hashed patient, clips to remove that are nearest to it, highest similarity; the twenty most exposed."""


class JudgeResult(FrozenModel):
    """The same question put to a second model, before and after the clips to remove are taken out."""

    digest: str
    """Of the judge's encoder, or of its re-identification head."""
    separate: bool
    """False where it is known to share training patients with the filter."""
    sees_copies: bool | None
    before: FlaggedPart
    after: FlaggedPart | None
    membership_auc_before: Estimate
    membership_auc_after: Estimate | None


class AuditResult(FrozenModel):
    """An audit, whole. Written as audit.json; `schema_version` rises when a field changes its meaning."""

    schema_version: Literal[2] = 2
    echofm_version: str
    verdict: str
    sees_copies: bool | None
    alpha: float
    rule: Literal["conformal", "published"]
    decide: Literal["clip", "frame", "motion", "any"]
    """The level whose q decides; "any" is all levels with Bonferroni's correction."""
    metric: Literal["cosine", "pearson"]
    seed: int
    encoder_digest: str
    reid_digest: str | None
    motion_digest: str | None = None
    """Of the motion features that are the motion level; None: a re-identification head's, or no such level."""
    train: SetSummary
    holdout: SetSummary
    synthetic: SetSummary
    flagged: FlaggedPart
    power: list[CanaryRecall]
    removed: int
    """Clips to remove: flagged by the rule, or a duplicate of a training or held-out clip."""
    levels: list[LevelResult]
    attacks: Attacks
    duplicates: DuplicateCount
    exposure: Exposure
    judge: JudgeResult | None
    notes: list[str]

    def level(self, name: str) -> LevelResult:
        """One level's result."""
        return next(each for each in self.levels if each.level == name)

    def exceeds(self, part: float) -> bool:
        """Whether a larger part of the clips is to be removed or lies closer to the training set than new patients
        would, also by the judge's count after the removal; or plain copies are missed, so that nothing is cleared."""
        judged = self.judge.after if self.judge is not None else None
        excess = any(
            each.excess_p <= self.alpha and each.fraction.value - self.alpha > part
            for each in (self.flagged, judged)
            if each is not None
        )
        return self.removed > part * self.synthetic.clips or excess or self.sees_copies is False

    def save(self, folder: str | Path, samples: pd.DataFrame) -> None:
        """Write samples.parquet and audit.json, both or no audit.json. Raises EchofmError where that cannot be done."""
        folder = Path(folder)
        files = [folder / "samples.parquet", folder / "audit.json"]
        with os_errors_as("the audit cannot be written ({reason}); check --out"), whole_files(files) as (rows, figures):
            samples.to_parquet(rows, index=False)
            figures.write_text(self.to_json(), encoding="utf-8")
            # The filter reads both: the samples of one audit must not lie beside the figures of another.
            for name in ("audit.json", "duplicates.json"):
                (folder / name).unlink(missing_ok=True)
