"""Fit a re-identification model for the privacy audit on the tables of one frozen encoder, and say whom it recognises.

Exit codes: 0 done; 1 done, but a level does no better than chance on held-out patients; 2 bad input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from echofm.errors import EchofmError
from synth.audit.reid.options import FitOptions

if TYPE_CHECKING:
    from synth.audit.reid.measure import Measured


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Fit a re-identification model: heads that bring recordings of one patient together and part those of others."""

    tables: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TABLE [TABLE ...]")]
    """Tables of real clips from `echofm embed --tokens 4,7,7`: the split train fits, val chooses, test measures.
    Several are put together, for instance with a table of altered copies."""
    out: Path
    """Folder for config.json, model.safetensors, README.md, verification.json and report.html."""
    role: Literal["single", "filter", "judge"] = "single"
    """filter and judge are fitted on different halves of the training patients, from different seeds."""
    train_half: Annotated[Literal["a", "b", "all"] | None, tyro.conf.arg(metavar="{a,b,all}")] = None
    """Half of the training patients; by default the role's own: filter a, judge b, single all."""
    levels: tuple[Literal["frame", "clip", "motion"], ...] = ()
    """By default all that the tables have features for."""
    draws: int = 1000
    """Of the bootstrap over patients."""
    fit: tyro.conf.OmitArgPrefixes[FitOptions] = field(default_factory=FitOptions)


def main(argv: list[str]) -> int:
    """`echofm audit fit-reid`."""
    arguments = tyro.cli(Arguments, args=argv, prog="echofm audit fit-reid")
    if not arguments.tables:
        raise EchofmError("name a table: echofm audit fit-reid TABLE --out FOLDER")
    # Only now, so that --help needs no torch.
    from echofm.embed.provenance import is_simulated
    from echofm.embed.table import EmbeddingTable
    from echofm.progress import progress_bar
    from synth.audit.reid.build import fit_reid, require_splits
    from synth.audit.reid.folder import save_reid
    from synth.audit.reid.measure import measure, summary
    from synth.audit.reid.report import page
    from synth.audit.reid.samples import available_levels

    tables = [EmbeddingTable.load(path) for path in arguments.tables]
    table = tables[0] if len(tables) == 1 else EmbeddingTable.concat(tables)
    require_splits(table, ("train", "val", "test"))
    levels = arguments.levels or available_levels(table)
    with progress_bar("fitting heads", len(levels) * (arguments.fit.tries + 1)) as bar:
        reid = fit_reid(
            table,
            role=arguments.role,
            half=arguments.train_half,
            levels=levels,
            options=arguments.fit,
            advance=lambda note: bar.advance(1, note=note),
        )
        test = table.select(split="test")
        measured = measure(
            reid, test, draws=arguments.draws, seed=arguments.fit.seed, advance=lambda note: bar.advance(1, note=note)
        )
    save_reid(reid, arguments.out)
    summary(reid, test, measured).save(arguments.out / "verification.json")
    page(reid, measured, phantom=is_simulated(table)).save(arguments.out / "report.html")
    blind = _print(measured)
    print(f"model and report: {arguments.out}", file=sys.stderr)
    return int(blind)


def _print(measured: list[Measured]) -> bool:
    """One line a figure; returns whether a level's head does no better than chance."""
    from synth.audit.reid.measure import hardest_setting

    for each in measured:
        auc, eer, found = each.found.auc, each.found.eer, each.found
        print(
            f"{each.level:<7} {found.setting:<20} {each.space:<11} AUC {auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]"
            f"  EER {eer.value:.4f} [{eer.low:.4f}, {eer.high:.4f}]  rank-1 {found.rank1.value:.3f}"
            f"  mAP {found.mean_average_precision.value:.3f}  ({found.patients} patients)"
        )
    blind = [
        level
        for level in dict.fromkeys(each.level for each in measured)
        if hardest_setting(measured, level).found.auc.low <= 0.5
    ]
    for level in blind:
        print(f"warning: the {level} head does no better than chance on held-out patients", file=sys.stderr)
    return bool(blind)
