"""A table of one's own about files or patients: its key columns under their usual names, the others as labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from echofm.clip import Label
from echofm.errors import EchofmError
from echofm.readers.datasets.columns import Column, Unread, understood
from echofm.readers.datasets.table import head_of, header_cells, read_table

# What a table may call the columns by which its lines are found, letters and digits alone.
KEYS: Mapping[str, Sequence[str]] = {
    "path": ("file", "filename", "filepath", "video", "videoname", "videofile"),
    "patient": ("mrn", "patientid", "patientnumber", "patid", "subject", "subjectid", "medicalrecordnumber"),
    "study": ("studyid", "studyuid", "studyinstanceuid", "accession", "accessionnumber", "exam", "examid"),
}
_LISTED, _LONGEST = 8, 40


@dataclass(frozen=True, kw_only=True)
class OwnTable:
    """cells: the columns that are no labels, under the names asked for, as text, "" where missing; by row.

    columns: the labels. unread: columns that are neither.
    """

    name: str
    cells: pd.DataFrame
    columns: tuple[Column, ...]
    unread: tuple[Unread, ...]
    found: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, *, own: Mapping[str, Sequence[str]], chosen: Mapping[str, str] | None = None) -> OwnTable:
        """A CSV file. own: columns that are no labels, each with its other names (letters and digits alone).

        chosen: header -> a label's name or one of `own`, for what the headers do not tell.
        Raises EchofmError where it is no table, a header chosen is not there, or two columns have one name.
        """
        headers, chosen = _headers(path), dict(chosen or {})
        named = {_key(header): name for header, name in chosen.items()}
        missing = [header for header in chosen if _key(header) not in {_key(each) for each in headers}]
        if missing:
            raise EchofmError(f"{path.name} has no column {missing[0]!r}; it has: {', '.join(map(_shown, headers))}")
        found = _own_columns(headers, own, named)
        rest = [each for each in headers if each not in found.values()]
        table = read_table(path, columns=[*found.values(), *rest])
        labels, unread = [], []
        for header in rest:
            column = understood(header, dict(zip(table.index, table[header])), name=named.get(_key(header)))
            if isinstance(column, Unread):
                unread.append(column)
            else:
                labels.append(column)
        first = {column.name: column for column in reversed(labels)} | {c.name: c for c in labels if c.header in chosen}
        unread += [Unread(header=c.header, holds=f"{c.name} again") for c in labels if first[c.name] is not c]
        cells = pd.DataFrame({name: table[found[name]] if name in found else "" for name in own}, index=table.index)
        return cls(
            name=path.name,
            cells=cells,
            columns=tuple(first[name] for name in sorted(first)),
            unread=tuple(unread),
            found=found,
        )

    def column(self, name: str) -> str | None:
        """The header of a column that is no label; None where there is none."""
        return self.found.get(name)

    @property
    def labels_by_row(self) -> dict[int, dict[str, Label]]:
        """Row -> label -> value, of the cells that are read."""
        rows: dict[int, dict[str, Label]] = {}
        for column in self.columns:
            for row, value in column.values.items():
                rows.setdefault(row, {})[column.name] = value
        return rows

    @property
    def notes(self) -> Counter[str]:
        """Columns and cells that are not read, each with where and what, and how many."""
        notes = Counter({column.note: len(column.unread) for column in self.columns if column.note is not None})
        shown = [f"{_shown(each.header)} ({each.holds})" for each in self.unread]
        if shown:
            listed = ", ".join([*shown[:_LISTED], *(["..."] if len(shown) > _LISTED else [])])
            way = f"--labels {self.name} --map 'COLUMN=NAME' reads one"
            notes[f"columns of {self.name} that are not read: {listed}; {way}"] = len(shown)
        return notes


def _headers(path: Path) -> list[str]:
    try:
        head = head_of(path)
    except OSError as error:
        raise EchofmError(f"{path.name} cannot be read ({error.strerror}); check the path") from None
    headers = [cell for cell in header_cells(head) if cell]
    # `read_table` names a column that stands twice only where it is asked for.
    return list({_key(header): header for header in reversed(headers)}.values())[::-1]


def _own_columns(headers: Sequence[str], own: Mapping[str, Sequence[str]], named: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, others in own.items():
        chosen = [header for header in headers if named.get(_key(header)) == name]
        free = [header for header in headers if _key(header) not in named]
        exact = [header for header in free if _key(header) == name]
        alike = [header for header in free if _letters(header) in (_letters(name), *others)]
        candidates = chosen or exact or alike
        if candidates:
            found[name] = candidates[0]
    return found


def _key(header: str) -> str:
    return header.strip().casefold()


def _letters(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.casefold())


def _shown(header: str) -> str:
    plain = header.isprintable() and len(header) <= _LONGEST and len(re.findall(r"\d", header)) <= 4
    return f'"{header}"' if plain else f"one of {len(header)} characters"
