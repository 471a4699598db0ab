"""The probe's figures by subgroup: does it hold for every view, band, quality, set?"""

from __future__ import annotations

from echofm.intervals import Estimate
from echofm.report.blocks import Block, Picture, Table
from probe.figures import forest
from probe.figures.canvas import in_words
from probe.report.results import shown
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
