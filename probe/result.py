"""ProbeResult: what a probe found, as probe.json holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from echofm.config import Recipe
from echofm.errors import EchofmError

Kind = Literal["linear", "knn"]


class Estimate(Recipe):
    """A figure on test patients: the mean over seeds, its 95 % interval over redrawn patients."""

    value: float
    low: float
    high: float


class Score(Recipe):
    """One metric of one method."""

    method: str
    """"probe", "mean" or "majority" (the predictor that looks at no features), or a rival's name."""
    label_fraction: float
    """Part of the training patients whose labels were used."""
    level: Literal["clip", "patient"]
    """patient: predictions averaged over a patient's clips."""
    metric: str
    estimate: Estimate


class Comparison(Recipe):
    """Probe against a rival encoder, on the same clips, patients redrawn together (paired)."""

    rival: str
    metric: str
    difference: Estimate
    """Probe minus rival."""


class SanityFigures(Recipe):
    """Of the embedding alone; NaN is written as null."""

    rankme: float
    spread: float
    within_patient: float | None
    between_patients: float | None
    problems: list[str]


class ProbeResult(Recipe):
    """One target of one encoder."""

    schema_version: Literal[1] = 1
    target: str
    task: Literal["regression", "classification"]
    kind: Kind
    classes: list[str]
    encoder_digest: str
    splits_from: str
    """"table": its own splits; "patients": a hash of the patient id."""
    clips: dict[str, int]
    """By split."""
    patients: dict[str, int]
    """By split."""
    seeds: int
    chosen: dict[str, float]
    """Hyper-parameter chosen on validation patients with all labels, by method."""
    sanity: SanityFigures
    scores: list[Score]
    comparisons: list[Comparison]

    def save(self, folder: str | Path, predictions: pd.DataFrame) -> None:
        """Write probe.json and predictions.parquet. Raises EchofmError where the folder cannot be written."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "probe.json").write_text(self.to_json(), encoding="utf-8")
            predictions.to_parquet(folder / "predictions.parquet", index=False)
        except OSError as error:
            raise EchofmError(f"the probe's result cannot be written ({error.strerror}); check --out") from None

    def score(
        self, metric: str, *, method: str = "probe", level: str = "clip", label_fraction: float = 1.0
    ) -> Estimate:
        """One figure. Raises KeyError where it was not measured."""
        for each in self.scores:
            if (each.metric, each.method, each.level, each.label_fraction) == (metric, method, level, label_fraction):
                return each.estimate
        raise KeyError(f"{metric} of {method} at {level} level with {label_fraction:g} of the labels")
