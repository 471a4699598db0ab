"""Privacy audit: does a synthetic set come closer to its training patients than to new ones, and could we tell?

Exit codes: 0 done; 1 done, and a larger part of the clips than `--fail-above` is to be removed, or the encoder misses
plain copies, so that nothing is cleared; 2 bad input. Also: `echofm audit duplicates`, `fit-reid` and `filter`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError
from synth.audit.settings import AuditSettings


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Audit a synthetic set against the patients that its generator was trained on.

    Every set is a folder of videos, a data set, shards, an embedding table, or an .npz of arrays; `SET:train` or
    `SET:val,test` takes some of its splits. `echofm audit duplicates`, `fit-reid` and `filter` are commands of their
    own. On several GPUs or cores: `torchrun --nproc_per_node 4 --no-python echofm audit ...`.
    """

    train: Annotated[str, tyro.conf.arg(metavar="SET")]
    """The clips that the generator was trained on."""
    holdout: Annotated[str, tyro.conf.arg(metavar="SET")]
    """Real clips of patients that the generator never saw, from the same hospital and protocol."""
    synthetic: Annotated[str, tyro.conf.arg(metavar="SET")]
    """The synthetic clips."""
    out: Path
    """Folder for report.html, audit.json and samples.parquet."""
    encoder: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """What embeds videos and shards, as in `echofm embed`; tables need none."""
    reid: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Re-identification head (`echofm audit fit-reid`) that the features go through."""
    judge: Annotated[str | None, tyro.conf.arg(metavar="HEAD|ENCODER")] = None
    """A second head or encoder, for the same question on all clips and on those that stay."""
    pdf: bool = False
    """Also write report.pdf, four pages at most, to be signed; Chromium or Chrome prints it."""
    fail_above: float = 0.0
    """Exit with code 1 where a larger part of the clips is to be removed, or lies closer to the training set than new
    patients would; and where plain copies are missed."""
    motion: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Run of `echofm synth train mafe echofm`, whose features are the motion level; copies of a motion on another heart
    are planted then."""
    canary_table: Annotated[str | None, tyro.conf.arg(metavar="TABLE")] = None
    """A table or .npz of canaries that you embedded yourself, for sets that are tables."""
    settings: tyro.conf.OmitArgPrefixes[AuditSettings] = field(default_factory=AuditSettings)
    embed: tyro.conf.OmitArgPrefixes[EmbedOptions] = field(default_factory=EmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm audit`, and its sub-commands by the first word."""
    if argv and argv[0] == "fit-reid":
        from synth.audit.reid.cli import main as fit_reid

        return int(fit_reid(argv[1:]))
    if argv and argv[0] == "filter":
        from synth.audit.filter.cli import main as filter_set

        return filter_set(argv[1:])
    if argv and argv[0] == "duplicates":
        from synth.audit.copies.cli import main as duplicates

        return duplicates(argv[1:])
    given = tyro.cli(Arguments, args=argv, prog="echofm audit", description=Arguments.__doc__)
    if not 0 <= given.fail_above <= 1:
        raise EchofmError(f"--fail-above {given.fail_above:g} is no part of the clips, 0 to 1")
    given.settings.check()
    if given.pdf:
        # Before what takes long.
        from echofm.report.pdf import browser

        browser()
    # Only now, so that --help needs no torch.
    from echofm.embed.run import joined_ranks
    from synth.audit.api import audited
    from synth.audit.audited import REPORT
    from synth.audit.inputs import Request, open_inputs

    request = Request(
        **{name: value for name, value in vars(given).items() if name not in ("out", "pdf", "fail_above")}
    )
    with joined_ranks(request.embed.torch_device) as ranks:
        inputs = open_inputs(request, ranks=ranks)
        if not ranks.is_main_process:
            return 0
    found = audited(request, inputs)
    found.save(given.out, fail_above=given.fail_above, pdf=given.pdf)
    print(found.verdict)
    for note in found.result.notes:
        print(f"note: {note}", file=sys.stderr)
    for each in found.result.levels:
        if each.search_recall < 1:
            print(f"{each.level} level: searched by IVF-PQ, measured recall {each.search_recall:.4f}")
    print(f"report: {given.out / REPORT}", file=sys.stderr)
    return int(found.result.exceeds(given.fail_above))
