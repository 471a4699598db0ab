"""Compare two probes of one target: is the difference more than chance?

Reads two probe.json and the predictions.parquet beside them. Exit codes: 0 done; 2 the two cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.atomic import write_whole
from echofm.errors import EchofmError
from echofm.intervals import Estimate
from probe.comparison import compare


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
        from probe.report.compared import compared_page

        compared_page(found).save(arguments.html)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise EchofmError(f"{path}: cannot be written ({error.strerror})") from None


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
