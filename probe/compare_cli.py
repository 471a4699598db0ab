"""Compare probes of one target: of two whether the difference is more than chance, of more a ranked table.

Reads their probe.json and the predictions.parquet beside each. Exit codes: 0 done; 2 they cannot be compared.
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
from probe.ranking import Ranked
from probe.report import canvas
from probe.report.canvas import in_words
from probe.report.results import NOT_DEFINED, shown, verdict


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare two probes of one target, or rank more of them, on the clips that all were tested on."""

    probes: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PROBE")]]
    """Two or more: probe.json files, or the folders that they are in."""
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
    if len(arguments.probes) < 2:
        raise EchofmError("compare takes two or more probes; name their probe.json files or folders")
    if len(arguments.probes) > 2:
        return _rank(arguments)
    found = compare(*arguments.probes, draws=arguments.draws, seed=arguments.seed)
    first, second = (
        f"{name} ({digest[:12]})"
        for name, digest in ((found.first_name, found.first_encoder), (found.second_name, found.second_encoder))
    )
    print(f"{found.target}: A {first}, B {second}, {found.clips} test clips")
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


def _rank(arguments: Arguments) -> int:
    from probe.ranking import rank
    from probe.report.ranking import ranking_page

    found = rank(arguments.probes, draws=arguments.draws, seed=arguments.seed)
    print(f"{found.target}: {len(found.ranked)} probes on {found.clips} test clips of {found.patients} patients")
    wide = max(len(each.name) for each in found.ranked)
    for each in found.ranked:
        line = f"{each.rank:>2}  {each.name:<{wide}}  {found.metric} {_shown(each.scores[found.metric])}"
        apart = "" if each.to_best is None else f"   to the best {_shown(each.to_best)}, {_apart(found.metric, each)}"
        print(line + apart)
    for note in found.notes:
        print(f"note: {note}")
    if arguments.json is not None:
        _write(arguments.json, found.to_json())
    if arguments.html is not None:
        ranking_page(found).save(arguments.html)
    return 0


def _apart(metric: str, each: Ranked) -> str:
    return "" if each.to_best is None else verdict(metric, each.to_best)


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
        lead=f"A is {found.first_name} (`{found.first_encoder[:12]}`), B {found.second_name} "
        f"(`{found.second_encoder[:12]}`).",
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
