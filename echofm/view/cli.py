"""One HTML page of a set's clips: film strips that play, by view, label and finding, to filter and sort.

SRC is shards, one of the public sets, any folder of echo files, a manifest.csv or one file; `SRC:train` shows a split.
Exit codes: 0 done, 2 bad input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError
from echofm.ids import load_key
from echofm.machine import processors
from echofm.readers.patients import PatientFrom
from echofm.schema import FrozenModel

_SIZES = (32, 512)


class View(FrozenModel):
    """The options of `echofm view`."""

    src: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Shards, data set, folder, manifest.csv or file."""
    out: Path = Path("view.html")
    """The page; it loads nothing from the network. It shows pixels: keep it where the clips are kept."""
    most: int = 200
    """Clips shown at most, spread evenly over the set; each takes about 100 kB of the page."""
    size: int = 112
    """Pixels a side."""
    processes: int = processors()
    """Files read at a time; the page does not depend on it."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Force a data set instead of looking at the folder."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """Whose a file is, in a plain folder, as for `echofm check`."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key of the ids; default: your own, made on first use."""


def main(argv: list[str]) -> int:
    """Entry point of `echofm view`."""
    options = tyro.cli(View, args=argv, prog="echofm view", description=__doc__)
    if options.most < 1:
        raise EchofmError(f"--most {options.most}: give 1 or more")
    if not _SIZES[0] <= options.size <= _SIZES[1]:
        raise EchofmError(f"--size {options.size}: give {_SIZES[0]} to {_SIZES[1]} pixels")
    # Only now, so that --help needs no reader.
    from echofm.embed.source import parsed
    from echofm.embed.videos import open_videos
    from echofm.readers.options import ReadOptions
    from echofm.view.gather import gather
    from echofm.view.page import page_of

    path, splits = parsed(options.src)
    if not path.exists():
        raise EchofmError(f"{options.src}: no such folder or file; check the path")
    videos = open_videos(
        path,
        options=ReadOptions(key=load_key(options.id_key)),
        processes=options.processes,
        dataset=options.dataset,
        patient_from=options.patient_from,
        has_patients=bool(splits),
    )
    found = gather(videos, most=options.most, size=options.size, splits=splits)
    name = Path(os.path.abspath(path)).name if path.is_dir() else "One file"
    page = page_of(found, name=name + (f", {', '.join(splits)}" if splits else "")).save(options.out)
    print(f"{len(found.seen)} clips, {sum(found.set_aside.values())} files set aside")
    print(f"page: {page}", file=sys.stderr)
    return 0
