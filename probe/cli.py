"""Linear probing: what a frozen encoder knows about a label, with intervals and baselines.

Reads embedding tables (`echofm embed`). Exit codes: 0 done; 1 done, but the embedding looks dead or leaks (said first);
2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.progress import Bar
    from probe.result import ProbeResult


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Probe a table of embeddings."""

    table: tyro.conf.Positional[Path]
    """Embedding table, from `echofm embed`."""
    out: Path
    """Folder for report.html and, by target, probe.json and predictions.parquet."""
    target: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """Label to predict; may be given several times."""
    kind: Literal["linear", "knn"] = "linear"
    """linear: ridge or logistic regression; knn: cosine nearest neighbours."""
    task: Literal["regression", "classification"] | None = None
    """Read off the label's values unless given."""
    label_fractions: tuple[float, ...] = (1.0,)
    """Parts of the training patients whose labels are used."""
    against: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Table of another encoder over the same clips; may be given several times."""
    seeds: int = 5
    """Draws of the labelled patients for each label fraction below 1."""
    seed: int = 0
    """Of the splits, the draws and the bootstrap."""


def main(argv: list[str]) -> int:
    """Run the probes and write their report; `compare A.json B.json` compares two that ran."""
    if argv[:1] == ["compare"]:
        from probe.compare import main as compare

        return compare(argv[1:])
    arguments = tyro.cli(Arguments, args=argv, prog="echofm probe")
    if not arguments.target:
        raise EchofmError("name a label to predict: --target ef_percent")
    from echofm.embed.table import EmbeddingTable
    from echofm.progress import progress_bar
    from probe.evaluate import evaluate
    from probe.report import write

    table = EmbeddingTable.load(arguments.table)
    rivals = {path.name: EmbeddingTable.load(path) for path in arguments.against}
    if len(rivals) < len(arguments.against):
        raise EchofmError("two tables given by --against have one name; rename a folder")
    fits = sum(1 if fraction == 1 else arguments.seeds for fraction in {*arguments.label_fractions, 1.0}) + len(rivals)
    probes = []
    with progress_bar("probing", fits * len(arguments.target)) as bar:
        for target in arguments.target:
            probed = evaluate(
                table,
                target=target,
                kind=arguments.kind,
                task=arguments.task,
                label_fractions=arguments.label_fractions,
                seeds=arguments.seeds,
                rivals=rivals,
                seed=arguments.seed,
                advance=partial(_advance, bar, target),
            )
            probed.result.save(arguments.out / target, probed.predictions)
            probes.append(probed)
    problems = probes[0].result.sanity.problems
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    for probed in probes:
        _print(probed.result)
    write(arguments.out, probes, table=table)
    print(f"report: {arguments.out / 'report.html'}", file=sys.stderr)
    return int(bool(problems))


def _advance(bar: Bar, target: str, note: str) -> None:
    bar.advance(1, note=f"{target}, {note}")


def _print(result: ProbeResult) -> None:
    for score in result.scores:
        if score.level == "clip":
            found = score.estimate
            print(
                f"{result.target:<16} {score.method:<10} {score.label_fraction:>5.0%} of labels  {score.metric:<18} "
                f"{found.value:8.3f}  [{found.low:.3f}, {found.high:.3f}]"
            )
