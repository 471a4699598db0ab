"""The probe's figures broken down: by number of labels, and by subgroup (view, band, quality, set)."""

from __future__ import annotations

from functools import partial

import pandas as pd

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Picture, Table
from probe.report import forest
from probe.report.canvas import in_words
from probe.report.results import method_name, shown
from probe.result import ProbeResult


def subgroups(result: ProbeResult) -> list[Block]:
    """A forest plot of the first metric and a table of all; nothing where no subgroup was measured."""
    groups = result.subgroups
    if not groups:
        return []
    metrics = list(dict.fromkeys(metric for each in groups for metric in each.scores))
    metric, overall = metrics[0], _overall(result, metrics[0])
    rows, column = [], None
    if overall is not None:
        rows.append(forest.Row("all test clips", overall, shown(overall), True))
    for each in groups:
        if each.column != column:
            column = each.column
            rows.append(forest.Row(in_words(column)))
        found = each.scores.get(metric)
        if found is not None:
            rows.append(forest.Row(f"{each.value} (n = {each.clips})", found, shown(found)))
    picture = Picture(
        draw=lambda: forest.forest(rows, metric=metric, reference=None if overall is None else overall.value),
        alt=f"{in_words(metric)} by subgroup, with intervals",
        caption="n: test clips. Dashed: all of them. An interval that leaves the dashed line out is one of several "
        "looked at; expect one in twenty by chance.",
    )
    table = Table(
        columns=("subgroup", "", "clips", "patients", *map(in_words, metrics)),
        rows=[
            (
                in_words(each.column),
                each.value,
                each.clips,
                each.patients,
                *(shown(each.scores.get(metric)) for metric in metrics),
            )
            for each in groups
        ],
        caption="Within a band of the label itself R² is low for any probe: there is little to tell apart.",
    )
    return [picture, table]


def _overall(result: ProbeResult, metric: str) -> Estimate | None:
    try:
        return result.score(metric)
    except KeyError:
        return None


def label_efficiency(result: ProbeResult) -> list[Block]:
    """The first metric against the number of labelled patients, where more than one number was tried."""
    scores = [each for each in result.scores if each.level == "clip" and not each.of]
    if len({each.label_fraction for each in scores}) < 2:
        return []
    metric = scores[0].metric
    frame = pd.DataFrame(
        [(each.method, each.label_fraction, each.estimate) for each in scores if each.metric == metric],
        columns=["method", "fraction", "estimate"],
    ).sort_values("fraction", kind="stable")
    curves = {}
    for method in frame["method"].drop_duplicates().sort_values(key=lambda names: names != "probe", kind="stable"):
        own = frame[frame["method"] == method]
        patients = [max(2, round(fraction * result.patients["train"])) for fraction in own["fraction"]]
        curves[method_name(method)] = forest.Curve(patients, own["estimate"].tolist())
    return [
        Picture(
            draw=partial(forest.label_efficiency, curves, metric=metric),
            alt=f"{in_words(metric)} against the number of labelled training patients",
            caption=f"Labels of fewer training patients, drawn anew for each of {result.seeds} seeds; intervals are "
            "over redrawn test patients.",
        )
    ]
