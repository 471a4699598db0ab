"""Run CardioBench, the field's benchmark, on the public sets that you have: encoders side by side, on one page.

The same command goes on after an interruption. Exit codes: 0 done; 1 done, but a check failed, or a task or set could
not be run (said first); 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError, os_errors_as

if TYPE_CHECKING:
    from probe.bench.records import Bench


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """CardioBench (arXiv 2510.00520) on whatever of its sets lies in a folder: ejection fraction, walls and ventricle,
    five diseases, views; and the prediction files that its own evaluators read."""

    encoders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER ...")] = ()
    """Encoders (docs/backbones.md); several are ranked."""
    sets: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder that the public sets lie in, or are linked from, each as it was unpacked."""
    out: Path
    """Folder for bench.html, bench.json, a folder for each encoder, and cardiobench/, for its evaluators."""
    cardiobench: Annotated[Path | None, tyro.conf.arg(metavar="CLONE")] = None
    """Clone of github.com/BioMedIA-MBZUAI/CardioBench: its tables split CardiacNet, HMC-QU and segRWMA."""
    baselines: bool = True
    """Also probe each architecture at random weights, and the pixels."""
    draws: int = 1000
    """Redrawn test sets that an interval comes from."""
    seed: int = 0
    """Of the bootstrap, the random weights, and splits where a set has none."""
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm bench`."""
    args = tyro.cli(Arguments, args=argv, prog="echofm bench", description=__doc__)
    if not args.encoders:
        raise EchofmError("name an encoder: echofm bench ENCODER --sets DIR --out OUT")
    args.embed.check()
    for name in ("dataset", "patient_from", "tokens"):
        if getattr(args.embed, name) is not None:
            raise EchofmError(f"--{name.replace('_', '-')}: the sets and their clips are known here; leave it out")
    if args.cardiobench is not None and not args.cardiobench.is_dir():
        raise EchofmError(f"--cardiobench {args.cardiobench}: no such folder; give a clone of CardioBench")
    from probe.bench.opened import How
    from probe.bench.run import run
    from probe.bench.sets import find
    from probe.protocol import require_request

    require_request(seed=args.seed, draws=args.draws)
    found, notes = find(args.sets)
    for note in notes:
        _say(f"note: {note}")
    how = How(
        options=args.embed,
        clone=args.cardiobench,
        with_baselines=args.baselines,
        draws=args.draws,
        seed=args.seed,
    )
    return _finish(run(args.encoders, found, out=args.out, how=how, say=_say), args.out)


def _finish(done: Bench, out: Path) -> int:
    from echofm.atomic import write_whole
    from probe.bench.page import HTML, JSON, bench_page, lines

    problems = list(dict.fromkeys(problem for record in done.tasks for problem in record.problems))
    for problem in problems:
        _say(f"warning: {problem}")
    for each in done.sets:
        if each.state == "missing":
            _say(f"{each.title}: not there, or without its tables; {each.where}")
    for line in lines(done):
        print(line)
    with os_errors_as("results cannot be written ({reason}); check --out"):
        write_whole(out / JSON, done.to_json())
    bench_page(done, out).save(out / HTML)
    _say(f"report: {out / HTML}; for CardioBench's evaluators: {out / 'cardiobench'}")
    return int(bool(problems or done.failed or any(each.state == "failed" for each in done.sets)))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
