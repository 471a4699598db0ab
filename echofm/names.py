"""Which file is behind an id: tables of real names, for the machine on which the files lie."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from echofm.atomic import write_whole
from echofm.clip import Clip
from echofm.errors import os_errors_as
from echofm.ids import IdKey
from echofm.readers.source import Row

NAMES = "names.csv"
_COLUMNS = ("file_id", "clip_id", "patient_id", "path")


@dataclass(frozen=True, kw_only=True)
class Name:
    """Hashed ids of one clip, and its file in clear. clip_id, patient_id: "" where the file was not read."""

    file_id: str
    clip_id: str
    patient_id: str
    path: Path

    @property
    def ids(self) -> frozenset[str]:
        """All that it is called by; a file's also without its suffix."""
        return frozenset((self.file_id, self.file_id.partition(".")[0], self.clip_id, self.patient_id)) - {""}


def names_of(row: Row, clips: list[Clip], *, key: IdKey) -> list[Name]:
    """A line for each clip of a file; the task of a `ReaderPool`."""
    file_id = key.file(row.path)
    return [Name(file_id=file_id, clip_id=c.clip_id, patient_id=c.patient_id, path=row.path) for c in clips]


def unread_name(row: Row, *, key: IdKey) -> Name:
    """The line of a file that gave no clip."""
    patient_id = key.patient(row.patient) if row.patient else ""
    return Name(file_id=key.file(row.path), clip_id="", patient_id=patient_id, path=row.path)


def names_csv(names: Iterable[Name]) -> str:
    """The table as CSV; a name that is no text at all is written with backslashes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows((each.file_id, each.clip_id, each.patient_id, each.path) for each in names)
    return os.fsencode(text.getvalue()).decode("utf-8", "backslashreplace")


def write_names(path: Path, names: Iterable[Name]) -> None:
    """Write the table, readable by its owner alone. Raises EchofmError where it cannot be written."""
    with os_errors_as(f"{path} cannot be written ({{reason}}); choose another path"):
        write_whole(path, names_csv(names), mode=0o600)
