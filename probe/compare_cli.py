"""Compare two probes of one target: is the difference more than chance?

Reads two probe.json and the predictions.parquet beside them. Exit codes: 0 done; 2 the two cannot be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from echofm.report.blocks import Block, Notice, Picture, Prose, Table
from echofm.report.page import Page
from probe.comparison import Compared, ComparedMetric, compare
from probe.report import canvas
from probe.report.canvas import in_words
from probe.report.results import NOT_DEFINED, shown, verdict


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare two probes of one target on the clips that both were tested on."""

    first: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="A.json")]]
    """probe.json of the first."""
    second: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="B.json")]]
    """probe.json of the second."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Also write a page here."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Also write the figures here."""
    draws: int = 1000
    """Of the patient bootstrap."""
    seed: int = 0
    """Of the patient bootstrap."""


def main(argv: list[str]) -> int:
    """Compare and print, and write what was asked for."""
    arguments = tyro.cli(Arguments, args=argv, prog="echofm probe compare")
    found = compare(arguments.first, arguments.second, draws=arguments.draws, seed=arguments.seed)
    print(f"{found.target}: A {found.first_encoder[:12]}, B {found.second_encoder[:12]}, {found.clips} test clips")
    for each in found.metrics:
        line = f"{each.metric:<20} A {_shown(each.first)}   B {_shown(each.second)}"
        print(line if each.difference is None else f"{line}   A - B {_shown(each.difference)}")
    for note in found.notes:
        print(f"note: {note}")
    if arguments.json is not None:
        _write(arguments.json, found.to_json())
    if arguments.html is not None:
        compared_page(found).save(arguments.html)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise EchofmError(f"{path}: cannot be written ({error.strerror})") from None


def _shown(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return NOT_DEFINED
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


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
    rows = [canvas.Row("A", each.first, shown(each.first)), canvas.Row("B", each.second, shown(each.second))]
    if each.difference is not None:
        rows.append(canvas.Row("A minus B", each.difference, shown(each.difference), True))
    return Picture(
        draw=partial(canvas.forest, rows, metric=each.metric, reference=None if each.difference is None else 0.0),
        alt=f"{in_words(each.metric)} of A and B with intervals",
    )
