"""ProbeResult: what a probe found, as probe.json holds it; one form for every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from echofm.atomic import whole_files
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.schema import FrozenModel

Kind = Literal["linear", "attentive", "knn", "upsampling"]
# A clip's label; then what is asked of time points, of pairs and of pixels.
Task = Literal["regression", "classification", "ordinal", "multilabel", "phase", "retrieval", "segmentation"]
# What predictions are pooled over before they are measured.
Pooling = Literal["clip", "study", "patient"]


class Score(FrozenModel):
    """One metric of one method."""

    method: str
    """"probe", a predictor that looks at no features ("mean", "majority", "prevalence"), or a baseline's name."""
    label_fraction: float = 1.0
    """Part of the training patients whose labels were used."""
    level: Pooling = "clip"
    """study, patient: predictions averaged over the clips of one."""
    metric: str
    of: str = ""
    """The one class, structure or label that the metric is of; empty: all of them."""
    estimate: Estimate


class Comparison(FrozenModel):
    """Probe against another method, on the same clips, patients redrawn together (paired)."""

    baseline: str
    """The other method."""
    metric: str
    level: Pooling = "clip"
    difference: Estimate
    """Probe minus baseline."""


class PerturbedScore(FrozenModel):
    """One metric of one method on test clips with a fault of the image, fitted and chosen on clean ones."""

    perturbation: str
    """Kind and strength, as `haze:0.5`."""
    method: str
    """As of a Score."""
    metric: str
    level: Pooling = "clip"
    estimate: Estimate
    change: Estimate
    """Minus the same method's figure on the clean clips, patients redrawn together."""


class Subgroup(FrozenModel):
    """The probe's figures on those test clips whose `column` is `value`."""

    column: str
    """view, dataset, frame_rate_hz, image_quality, ... ; of a number `value` is a band such as "40 to 50"."""
    value: str
    clips: int
    patients: int
    scores: dict[str, Estimate]
    """By metric, at clip level."""


class Check(FrozenModel):
    """One thing that was looked at before any figure."""

    name: str
    passed: bool | None
    """None: it could not be looked at; `says` tells why."""
    says: str
    figures: dict[str, float] = pydantic.Field(default_factory=dict)


class SanityFigures(FrozenModel):
    """Of the embedding alone."""

    rankme: float
    embedding_std: float
    within_patient: float | None
    between_patients: float | None
    problems: list[str]
    """What is wrong, in words."""
    checks: list[Check] = pydantic.Field(default_factory=list)
    """All that was looked at, failed or not."""

    def with_check(self, check: Check) -> SanityFigures:
        """With one more at the end."""
        problems = [*self.problems, *([check.says] if check.passed is False else [])]
        return self.model_copy(update={"problems": problems, "checks": [*self.checks, check]})


class ProbeResult(FrozenModel):
    """One target of one encoder."""

    schema_version: Literal[1] = 1
    target: str
    task: Task
    kind: Kind = "linear"
    features: str = "video"
    """What was read of a clip, one of `probe.labels.features.Features`: "video", its mean, "motion", how it moves."""
    classes: list[str] = pydantic.Field(default_factory=list)
    """Classes, levels in rising order (ordinal), labels (multilabel) or structures (segmentation); else empty."""
    encoder_digest: str
    splits_from: str
    """"table": its own splits; "patients": a hash of the patient id; "test clips": those given, another set's;
    "cross-validation": every clip is tested."""
    clips: dict[str, int]
    """By split."""
    patients: dict[str, int]
    """By split."""
    seeds: int = 1
    folds: int = 1
    """Of a cross-validation by patient; 1: one split."""
    encoder: str = ""
    """The encoder's name as it was given; "" where only its digest is known."""
    data: str = ""
    """What it was probed on, as it was given."""
    chosen: dict[str, dict[str, float | str]]
    """Hyper-parameters chosen on validation patients with all labels, by method."""
    sanity: SanityFigures
    scores: list[Score]
    comparisons: list[Comparison]
    perturbed: list[PerturbedScore] = pydantic.Field(default_factory=list)
    """By perturbation, then method."""
    subgroups: list[Subgroup] = pydantic.Field(default_factory=list)
    notes: list[str] = pydantic.Field(default_factory=list)
    """What a reader of the figures must know, in words."""

    def save(self, folder: str | Path, predictions: pd.DataFrame) -> None:
        """Write probe.json and predictions.parquet. Raises EchofmError where the folder cannot be written."""
        folder = Path(folder)
        try:
            with whole_files([folder / "predictions.parquet", folder / "probe.json"]) as (rows, figures):
                predictions.to_parquet(rows, index=False)
                figures.write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise EchofmError(f"the probe's result cannot be written ({error.strerror}); check --out") from None

    def of_one_split(self) -> ProbeResult:
        """For commands that cannot cross-validate: no note names that option."""
        notes = [note.partition("; --cross-validate")[0] for note in self.notes]
        return self.model_copy(update={"notes": notes})

    @property
    def main_scores(self) -> list[Score]:
        """Those with all labels, by clip, of all classes."""
        return [each for each in self.scores if each.label_fraction == 1.0 and each.level == "clip" and not each.of]

    def score(
        self, metric: str, *, method: str = "probe", level: str = "clip", label_fraction: float = 1.0, of: str = ""
    ) -> Estimate:
        """One figure. Raises KeyError where it was not measured."""
        wanted = (metric, method, level, label_fraction, of)
        for each in self.scores:
            if (each.metric, each.method, each.level, each.label_fraction, each.of) == wanted:
                return each.estimate
        raise KeyError(f"{metric} of {method} at {level} level with {label_fraction:g} of the labels {of}".rstrip())


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """A frame and two maps of the same size, structures numbered from 1, 0 background, 255 not annotated.

    name: what is set above it, e.g. "Dice 0.91". frame_HW: uint8, grey.
    """

    name: str
    frame_HW: npt.NDArray[np.uint8]
    true_HW: npt.NDArray[np.uint8]
    predicted_HW: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        assert self.frame_HW.shape == self.true_HW.shape == self.predicted_HW.shape, "frame and maps of one size"


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """A result and the rows behind it.

    predictions: a row per test clip with all labels used, clip_id and patient_id first. Of a number: true, predicted
    (the mean over seeds). Of classes and levels also probability_<class>. Of several labels: for each true_<label>
    and probability_<label>. Other tasks name their own columns.
    overlays: of a segmentation, some test frames with what was predicted, for the report.
    model: of a linear probe of a clip's label, the `probe.predict.model.LabelModel` that was fitted.
    """

    result: ProbeResult
    predictions: pd.DataFrame
    overlays: Sequence[Overlay] = ()
    model: Any = None
