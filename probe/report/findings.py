"""Findings: all that the report shows of a target beyond probe.json, and the model card's section on them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from echofm.atomic import write_whole
from echofm.embed.provenance import datasets
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.schema import FrozenModel
from probe.partition import FEW_PATIENTS
from probe.report.agreement import Agreement, agreement
from probe.report.canvas import in_words
from probe.report.classes import Calibration, Confusion, calibration, class_words, confusion, of_classes
from probe.report.clips import WorstClips, worst_clips
from probe.report.results import by_line, method_name, origin, shown, verdict
from probe.result import Probed, ProbeResult, Subgroup

_FEWEST_CLIPS = 3
_WIDTH = 100
_RULE = (
    "No patient is in two splits. Hyper-parameters were chosen on validation patients; test patients were looked at "
    "once. Intervals are 95 %, by redrawing test patients with all their clips."
)


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


def card(probes: Sequence[Probed], *, found: Findings, table: EmbeddingTable | None = None, tuned: bool = False) -> str:
    """Markdown to paste: data, protocol, figures with intervals, limits; says "phantom" where clips are simulated."""
    lines = [
        ("## What it predicts" if tuned else "## What its frozen features know")
        + (" (phantom)" if found.phantom else ""),
        "",
    ]
    lines += [f"Encoder digest `{found.encoder_digest}`.", ""]
    if found.problems:
        lines += ["**Failed checks:** " + "; ".join(map(_plain, found.problems)) + ".", ""]
    lines += ["### Data and protocol", ""]
    lines += map(_bullet, [*_data(found, table), *(_protocol(each.result) for each in probes)])
    lines += [_bullet(_RULE), "", "### Figures", ""]
    for each in probes:
        lines += [*_figures(each.result), ""]
    lines += ["### Limits", "", *map(_bullet, _limits(probes, found)), ""]
    return "\n".join(lines)


def _data(found: Findings, table: EmbeddingTable | None) -> list[str]:
    if table is None:
        return ["Data: not stated in the probe's input."]
    sets = ", ".join(map(_plain, datasets(table))) or "not named"
    views = ", ".join(_plain(str(view)) for view in table.rows["view"].value_counts().index) or "not named"
    kind = "Simulated clips (phantom), in the layout of: " if found.phantom else "Data sets: "
    patients = len(set(table.patient_id))
    return [f"{kind}{sets}. {len(table)} clips of {patients} patients; views: {views}."]


def _protocol(result: ProbeResult) -> str:
    counts = ", ".join(
        f"{name} {clips} clips of {result.patients[name]} patients" for name, clips in result.clips.items()
    )
    return f"{_plain(in_words(result.target))}: {result.kind} probe, {result.task}; {counts}; {origin(result)}."


def _figures(result: ProbeResult) -> list[str]:
    metrics, found = by_line(result.main_scores, lambda each: each.method)
    lines = [
        f"| {_plain(in_words(result.target))} | " + " | ".join(map(in_words, metrics)) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for method, own in found.items():
        cells = " | ".join(shown(own.get(metric)).replace("\N{NO-BREAK SPACE}", " ") for metric in metrics)
        lines.append(f"| {_plain(method_name(method))} | {cells} |")
    return lines


def _limits(probes: Sequence[Probed], found: Findings) -> list[str]:
    limits = [
        "Research software, no medical device. A probe shows what features hold, not what a clinician may rely on."
    ]
    if found.phantom:
        limits.append("Measured on a phantom: these figures say nothing about patients.")
    few = [each.result for each in probes if each.result.patients["test"] < FEW_PATIENTS]
    if few:
        counts = ", ".join(f"{_plain(in_words(each.target))} {each.patients['test']}" for each in few)
        limits.append(f"Few test patients ({counts}); the intervals are as wide as that makes them.")
    for each in probes:
        name = _plain(in_words(each.result.target))
        limits += [f"{name}: {note}" for note in each.result.notes]
        limits += _not_beaten(each.result, name)
    for target in found.targets:
        if target.agreement is not None and target.agreement.slope.high < 1:
            limits.append(
                f"{_plain(in_words(target.target))}: high values are said too low and low ones too high (slope on true "
                f"{target.agreement.slope.value:.2f})."
            )
    return limits


def _not_beaten(result: ProbeResult, name: str) -> list[str]:
    """Baselines that the encoder does not beat beyond the interval of the paired difference, in the first metric."""
    metric = result.scores[0].metric if result.scores else ""
    lost = [
        method_name(each.baseline)
        for each in result.comparisons
        if each.metric == metric and each.level == "clip" and verdict(metric, each.difference) != "better"
    ]
    return [f"{name}: not better than {_plain(', '.join(lost))} beyond chance, by {in_words(metric)}."] if lost else []


def _bullet(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False)


def _plain(text: str) -> str:
    """Text that stays text in a Markdown table and in HTML made from it."""
    for mark in ("\\", "`", "*", "_", "|", "[", "]", "#"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
