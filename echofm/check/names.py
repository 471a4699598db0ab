"""Which file is behind an id of a clip, file or patient: names real paths, for your own eyes.

SRC is what shards, a table or a report were made from, with the same --patient-from and --id-key. Exit codes: 0 done,
1 an id was not found, 2 bad input.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.machine import processors
from echofm.names import Name, names_csv, names_of, unread_name, write_names
from echofm.progress import progress_bar
from echofm.readers.datasets import open_source
from echofm.readers.guarded import ReaderPool
from echofm.readers.options import ReadOptions
from echofm.readers.patients import PatientFrom
from echofm.readers.source import Row
from echofm.schema import FrozenModel
from echofm.shards.manifest import MANIFEST


class Names(FrozenModel):
    """The options of `echofm names`."""

    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """Data set, folder, manifest.csv or file."""
    ids: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID")] = ()
    """Ids of clips, files or patients; by default all."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """Write the table here, readable by you alone, instead of printing it."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Force a data set instead of looking at the folder."""
    patient_from: Annotated[PatientFrom | None, tyro.conf.arg(metavar="RULE")] = None
    """Whose a file is, in a plain folder, as for `echofm shards`."""
    id_key: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the key of the ids; default: your own."""
    processes: int = processors()
    """Files read at a time."""


def main(argv: list[str]) -> int:
    """Entry point of `echofm names`."""
    options = tyro.cli(Names, args=argv, prog="echofm names", description=__doc__)
    if (options.src / MANIFEST).is_file():
        raise EchofmError(f"{options.src} holds shards, which know no files; give the folder they were made from")
    source = open_source(options.src, dataset=options.dataset, patient_from=options.patient_from)
    rows, wanted = list(source.rows(doubtful=True)), frozenset(options.ids)
    found = _found(rows, wanted, key=load_key(options.id_key), processes=options.processes)
    missing = sorted(wanted - {each for name in found for each in name.ids})
    if options.out is not None:
        write_names(options.out, found)
    else:
        print(names_csv(found), end="")
    for each in missing:
        print(f"{each}: no file of the source; check --patient-from and --id-key", file=sys.stderr)
    return int(bool(missing))


def _found(rows: Sequence[Row], wanted: frozenset[str], *, key: IdKey, processes: int) -> list[Name]:
    """The lines with a wanted id, all where none is named. Files are read no further than is needed."""
    unread = [unread_name(row, key=key) for row in rows]
    if wanted and wanted <= {each for name in unread if not name.patient_id for each in name.ids}:
        # File ids alone, which paths tell.
        return [name for name in unread if name.ids & wanted]
    found: list[Name] = []
    of_clips = wanted - {each for name in unread for each in name.ids}
    for names in _read(rows, key=key, processes=processes):
        found += [name for name in names if not wanted or name.ids & wanted]
        # A clip has one file, a patient any number: only then is there no more to come.
        of_clips -= {name.clip_id for name in names}
        if wanted and not of_clips and wanted <= {name.clip_id for name in found}:
            break
    return found


def _read(rows: Sequence[Row], *, key: IdKey, processes: int) -> Iterator[list[Name]]:
    pool = ReaderPool(
        functools.partial(names_of, key=key),
        processes=min(processes, max(1, len(rows))),
        options=ReadOptions(key=key),
    )
    with pool, progress_bar("reading", len(rows)) as bar:
        for row, result in pool.map(rows):
            yield [unread_name(row, key=key)] if isinstance(result, UnreadableFile) else result
            bar.advance()
