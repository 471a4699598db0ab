"""report.html of a probe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from echofm.report.blocks import Block, Panels, Picture, Prose, Table
from echofm.report.page import Page
from probe import figures
from probe.evaluate import Probed
from probe.result import Estimate, ProbeResult

_WORST = 10


def page(probes: Sequence[Probed], *, title: str = "What a frozen encoder knows") -> Page:
    """One page for one or more targets of one encoder. Ids on it are hashes."""
    first = probes[0].result
    report = Page(title, lead=f"Encoder {first.encoder_digest[:16]}, {first.kind} probes on its frozen clip features.")
    for problem in first.sanity.problems:
        report.warn(problem)
    report.add("The embedding itself", _sanity(first))
    for probed in probes:
        report.add(probed.result.target, *_target(probed))
    return report


def _sanity(result: ProbeResult) -> Table:
    found = result.sanity
    rows = [
        ("effective rank (RankMe)", f"{found.rankme:.1f}"),
        ("spread, 0 to 1", f"{found.spread:.3f}"),
        ("cosine within a patient, centred features", _or_unknown(found.within_patient)),
        ("cosine between patients, centred features", _or_unknown(found.between_patients)),
    ]
    return Table(
        columns=("measure", "value"),
        rows=rows,
        caption="Dead: rank near 1 or no spread. Sees identity: more cosine within a patient than between patients.",
    )


def _target(probed: Probed) -> list[Block]:
    result, rows = probed.result, probed.predictions
    blocks: list[Block] = [Prose(_protocol(result)), _scores(result)]
    if result.comparisons:
        blocks.append(_comparisons(result))
    blocks.append(_pictures(result, rows))
    fractions = {score.label_fraction for score in result.scores}
    if len(fractions) > 1:
        metric = result.scores[0].metric
        blocks.append(
            Picture(
                draw=lambda: figures.label_efficiency(result, metric),
                alt=f"{metric} against the number of labelled training patients",
                caption="Training patients are drawn anew for every seed; intervals are over redrawn test patients.",
            )
        )
    if result.task == "regression":
        blocks.append(_worst(rows))
    return blocks


def _protocol(result: ProbeResult) -> str:
    counts = ", ".join(
        f"{result.clips[name]} clips of {result.patients[name]} patients for {use}"
        for name, use in (("train", "fitting"), ("val", "choosing the penalty"), ("test", "the figures"))
    )
    origin = "the set's own splits" if result.splits_from == "table" else "patients dealt out by a hash of their id"
    return f"{counts}; {origin}. Intervals: 95 %, test patients redrawn with all their clips."


def _scores(result: ProbeResult) -> Table:
    metrics = list(dict.fromkeys(score.metric for score in result.scores))
    lines: dict[tuple[str, float, str], dict[str, Estimate]] = {}
    for score in result.scores:
        lines.setdefault((score.method, score.label_fraction, score.level), {})[score.metric] = score.estimate
    rows = [
        (method, f"{fraction:.0%}", level, *(_shown(found.get(metric)) for metric in metrics))
        for (method, fraction, level), found in lines.items()
    ]
    return Table(columns=("method", "labels", "per", *(name.replace("_", " ") for name in metrics)), rows=rows)


def _comparisons(result: ProbeResult) -> Table:
    return Table(
        columns=("against", "metric", "difference (95 % interval)"),
        rows=[(each.rival, each.metric.replace("_", " "), _shown(each.difference)) for each in result.comparisons],
        caption="This encoder minus the other, on the same clips, patients redrawn together.",
    )


def _pictures(result: ProbeResult, rows: pd.DataFrame) -> Panels:
    true, said = rows["true"].to_numpy(), rows["predicted"].to_numpy()
    if result.task == "regression":
        pictures = [
            Picture(draw=lambda: figures.scatter(true, said, name=result.target), alt="predicted against true"),
            Picture(draw=lambda: figures.bland_altman(true, said, name=result.target), alt="difference against mean"),
        ]
        return Panels(pictures, caption="Test clips. Right: bias and 95 % limits of agreement.")
    present = [name for name in result.classes if 0 < np.mean(true == name) < 1]
    probability = {name: rows[f"probability_{name}"].to_numpy() for name in present}
    pictures = [
        Picture(draw=lambda: figures.confusion(true, said, classes=result.classes), alt="confusion matrix"),
        Picture(draw=lambda: figures.roc(true, probability), alt="receiver operating characteristic of each class"),
    ]
    return Panels(
        pictures, caption="Test clips. Left: colour is the part of the true class. Right: each class against the rest."
    )


def _worst(rows: pd.DataFrame) -> Table:
    errors = (rows["predicted"] - rows["true"]).abs()
    worst = rows.assign(error=errors).nlargest(_WORST, "error")
    return Table(
        columns=("clip (hashed)", "patient (hashed)", "true", "predicted"),
        rows=[(r.clip_id, r.patient_id, f"{r.true:.1f}", f"{r.predicted:.1f}") for r in worst.itertuples()],
        caption="The test clips furthest off.",
    )


def _shown(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _or_unknown(value: float | None) -> str:
    return "no patient has two clips" if value is None else f"{value:.3f}"
