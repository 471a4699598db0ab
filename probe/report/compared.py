"""The page of two probes side by side."""

from __future__ import annotations

from functools import partial

from echofm.report.blocks import Block, Notice, Picture, Prose, Table
from echofm.report.page import Page
from probe.comparison import Compared, ComparedMetric
from probe.report import forest
from probe.report.canvas import in_words
from probe.report.results import shown, verdict


def compared_page(found: Compared) -> Page:
    """Figures of both, their paired differences where these are known, and a picture of each metric."""
    target = in_words(found.target)
    report = Page(
        f"Two encoders on {target}",
        lead=f"A is encoder `{found.first_encoder[:16]}`, B `{found.second_encoder[:16]}`.",
    )
    blocks: list[Block] = [_table(found), Prose(_protocol(found)), *(Notice(f"{note}.") for note in found.notes)]
    report.add("Results", *blocks, *(_picture(each) for each in found.metrics))
    return report


def _table(found: Compared) -> Table:
    heads = ("metric", "A", "B", *(("A minus B", "A is") if found.paired else ()))
    return Table(
        columns=heads,
        rows=[
            (
                in_words(each.metric),
                shown(each.first),
                shown(each.second),
                *(() if each.difference is None else (shown(each.difference), verdict(each.metric, each.difference))),
            )
            for each in found.metrics
        ],
    )


def _protocol(found: Compared) -> str:
    same = f"{found.clips} test clips of {found.patients} patients, all labels used. Intervals: 95 %."
    if found.paired:
        return f"{same} For the difference the same patients are redrawn for A and B. Not told apart: it contains zero."
    return same


def _picture(each: ComparedMetric) -> Picture:
    rows = [forest.Row("A", each.first, shown(each.first)), forest.Row("B", each.second, shown(each.second))]
    if each.difference is not None:
        rows.append(forest.Row("A minus B", each.difference, shown(each.difference), True))
    return Picture(
        draw=partial(forest.forest, rows, metric=each.metric, reference=None if each.difference is None else 0.0),
        alt=f"{in_words(each.metric)} of A and B with intervals",
    )
