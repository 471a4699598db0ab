"""Findings: all that the report shows of a target beyond probe.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.schema import FrozenModel
from probe.report.agreement import Agreement, agreement
from probe.report.classes import Calibration, Confusion, calibration, class_words, confusion, of_classes
from probe.report.clips import WorstClips, worst_clips
from probe.result import Probed, ProbeResult, Subgroup

_FEWEST_CLIPS = 3


class TargetFindings(FrozenModel):
    """Of one target, on its test clips with all labels used; null where the task has no such thing."""

    target: str
    task: str
    agreement: Agreement | None = None
    calibration: dict[str, Calibration]
    """"": of the classes; of several labels, each under its name."""
    confusion: Confusion | None = None
    worst: WorstClips | None = None
    subgroups: list[Subgroup]


class Findings(FrozenModel):
    """report.json."""

    schema_version: Literal[1] = 1
    encoder_digest: str
    phantom: bool
    """Whether the clips are simulated."""
    problems: list[str]
    """Failed sanity checks of the embedding."""
    targets: list[TargetFindings]

    def save(self, path: str | Path) -> None:
        """Write it. Raises EchofmError where it cannot be written."""
        try:
            write_whole(path, self.to_json())
        except OSError as error:
            raise EchofmError(f"report.json cannot be written ({error.strerror}); check --out") from None


def findings(probes: Sequence[Probed], *, phantom: bool) -> Findings:
    """Of one or more targets of one encoder."""
    first = probes[0].result
    return Findings(
        encoder_digest=first.encoder_digest,
        phantom=phantom,
        problems=list(dict.fromkeys(problem for each in probes for problem in each.result.sanity.problems)),
        targets=[target_findings(each) for each in probes],
    )


def target_findings(probed: Probed) -> TargetFindings:
    """Of one target."""
    result, rows = probed.result, probed.predictions
    classes, columns = list(result.classes), set(rows.columns)
    one_class = {"true", "predicted", *(f"probability_{name}" for name in classes)} <= columns and len(classes) > 1
    number = result.task == "regression" and len(rows) >= _FEWEST_CLIPS and np.ptp(rows["true"].to_numpy(float)) > 0
    return TargetFindings(
        target=result.target,
        task=result.task,
        agreement=agreement(rows) if number else None,
        calibration=_calibrations(rows, result, one_class=one_class),
        confusion=confusion(rows, classes=classes) if one_class else None,
        worst=worst_clips(rows, task=result.task, classes=classes) if {"clip_id", "patient_id"} <= columns else None,
        subgroups=list(result.subgroups),
    )


def _calibrations(rows: pd.DataFrame, result: ProbeResult, *, one_class: bool) -> dict[str, Calibration]:
    classes, found = list(result.classes), {}
    if "patient_id" not in rows.columns:
        return {}
    patients = rows["patient_id"].to_numpy(str)
    if one_class:
        predicted_NK = rows[[f"probability_{name}" for name in classes]].to_numpy(float)
        numbers = pd.Index(classes)
        true_N, answer_N = (numbers.get_indexer(pd.Index(rows[name].astype(str))) for name in ("true", "predicted"))
        return {"": of_classes(predicted_NK, true_N, answer_N, patients, classes=class_words(result))}
    for name in classes if result.task == "multilabel" else ():
        known = rows[rows[f"true_{name}"].notna()]
        if len(known):
            found[name] = calibration(
                known[f"probability_{name}"].to_numpy(float),
                known[f"true_{name}"].to_numpy(float) > 0.5,
                known["patient_id"].to_numpy(str),
                predicted_as=f"said probability of {name}",
                seen_as=f"part that has {name}",
            )
    return found
