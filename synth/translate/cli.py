"""Write the greyscale twin of every colour Doppler clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from echofm.readers.patients import PatientFrom


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Write the greyscale twin of every colour Doppler clip, at its own size and rate, under its own id.

    Only what the colour hides is predicted; every other pixel stays as it was read. Clips without colour are copied;
    M-mode, spectral Doppler and colour that covers the whole sector are refused. OUT has lossless videos and
    manifest.csv, which `echofm shards OUT` reads, provenance.jsonl and index.html. Give the same command again after an
    interruption and it goes on. Exit codes: 0 written, 2 bad input.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run of `echofm synth train translate`, its export, or a hub id."""
    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A folder of echoes, a file, or shards in colour (--channels 3); SRC:test takes a split."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder of the twins."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the public set in the folder; by default found by looking."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """What tells patients apart in a plain folder: dicom, parent, top, stem or study (docs/datasets.md)."""
    processes: int = 2
    """Reader processes; shards need none."""
    seed: int = 0
    """Of the speckle."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Torch device; auto: a GPU where there is one."""


def main(argv: list[str]) -> int:
    """`echofm synth translate`."""
    args = tyro.cli(Translate, args=argv, prog="echofm synth translate", description=Translate.__doc__)
    # Only now, so that --help needs no torch.
    from echofm.embed.options import EmbedOptions
    from echofm.embed.source import parsed
    from synth.translate.write import open_translator, translate_set

    options = EmbedOptions(
        device=args.device, dataset=args.dataset, patient_from=args.patient_from, processes=args.processes
    )
    net = open_translator(args.run, device=options.torch_device)
    src, splits = parsed(args.src)
    print(translate_set(net, options.videos(src), args.out, splits=splits, seed=args.seed))
    return 0
