"""Find training recordings in a synthetic set by their bytes and speckle: no encoder, no held-out patients."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.embed.options import EmbedOptions
from echofm.errors import EchofmError
from echofm.machine import processors
from echofm.readers.patients import PatientFrom

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Find the synthetic clips that show the very recording of a training clip.

    A set is a folder of videos, a data set or shards; `SET:train` takes some of its splits. No encoder and no held-out
    patients are needed; `echofm audit` also finds what is too close without being a copy. Exit codes: 0 none found,
    1 clips are to be removed, 2 bad input.
    """

    train: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TRAIN")]
    """The clips that the generator was trained on."""
    synthetic: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SYNTHETIC")]
    """The synthetic clips."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder for report.html, duplicates.json and samples.parquet, which `echofm audit filter --audit` reads."""
    pdf: bool = False
    """Also write report.pdf; Chromium or Chrome prints it."""
    strips: bool = True
    """Show the copies beside their sources; without them no pixels are in the report."""
    processes: int = processors()
    """Files read at a time; the result does not depend on it."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the public set in the folders; by default found by looking."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """What tells patients apart in a plain folder: dicom, parent, top, stem or study (docs/datasets.md)."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """File with the key of the ids; by default your own."""


def main(argv: list[str]) -> int:
    """`echofm audit duplicates`."""
    given = tyro.cli(Arguments, args=argv, prog="echofm audit duplicates", description=Arguments.__doc__)
    if given.pdf:
        from echofm.report.pdf import browser

        if given.out is None:
            raise EchofmError("--pdf is written into --out; name a folder")
        browser()
    # Only now, so that --help needs no torch.
    from synth.audit.copies.page import LIMITS, page
    from synth.audit.copies.search import search_duplicates

    options = EmbedOptions(
        processes=given.processes, dataset=given.dataset, patient_from=given.patient_from, id_key=given.id_key
    )
    options.check()
    found = search_duplicates(given.train, given.synthetic, options=options)
    print(f"{found.result.verdict}.")
    copies = found.samples[found.samples["removed"]]
    for row in copies.head(_SHOWN).itertuples():
        print(f"  {row.clip_id} shows {row.duplicate_of} of patient {row.patient}")
    if len(copies) > _SHOWN:
        print(f"  and {len(copies) - _SHOWN} more{'' if given.out else ': --out has all'}")
    print(LIMITS.replace("`", ""))
    if given.out is not None:
        found.save(given.out)
        report = page(found, out=given.out.name, shown=given.strips).save(given.out / "report.html")
        if given.pdf:
            from echofm.report.pdf import print_pdf

            print_pdf(report, given.out / "report.pdf")
        print(f"report: {report}", file=sys.stderr)
    return int(found.result.removed > 0)
