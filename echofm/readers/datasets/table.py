"""The tables that come with data sets: CSV read as text, checked, never trusted."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.errors import EchofmError

MAX_TABLE_MB = 1024
_CHUNK_ROWS = 200_000
_HEAD_BYTES = 65536
_UTF8 = "utf-8-sig"
# What Excel puts above the header.
_SEP_LINE = re.compile(r'"?sep=.?"?\r?\n', re.IGNORECASE)


def header(path: Path) -> list[str]:
    """Column names of a table, stripped and lower-case; empty where there is no such file or it holds no text."""
    try:
        return _names(head_of(path))
    except (OSError, EchofmError):
        return []


def read_table(path: Path, *, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The named columns of a CSV file (plain or .gz, UTF-8 or with its mark UTF-16), cells as text.

    "" stands where a cell is empty and in a missing optional column.

    Names are compared without regard to case and outer blanks, then without blanks, `_` and `-` between words. Any
    bytes are accepted in cells: what is no UTF-8 becomes surrogate escapes, as in file names, so that both match. The
    index counts the lines below the header from 0; empty lines, as spreadsheets leave them, are left out.
    Raises EchofmError naming the table and the column that is missing, or why the file is no table.
    """
    return pd.concat(list(read_chunks(path, columns=columns, optional=optional)))


def read_chunks(path: Path, *, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """As `read_table`, a part at a time: for tables of millions of rows."""
    try:
        head, encoding = _head(path)
        above = _SEP_LINE.match(head)
        head = _SEP_LINE.sub("", head, count=1) if above else head
        size_mb = path.stat().st_size / 2**20
    except OSError as error:
        raise EchofmError(f"{path.name} cannot be read ({error.strerror}); the data set needs this table") from None
    if size_mb > MAX_TABLE_MB:
        raise EchofmError(f"{path.name} has {size_mb:.0f} MB; a table of this data set is below {MAX_TABLE_MB} MB")
    wanted = _columns_of(_names(head), path.name, columns=columns, optional=optional)
    try:
        with pd.read_csv(
            path,
            sep=separator(head),
            compression="gzip" if path.suffix.lower() == ".gz" else None,
            dtype=object,
            keep_default_na=False,
            encoding=encoding,
            encoding_errors="surrogateescape" if encoding == _UTF8 else "strict",
            usecols=lambda name: str(name).strip().casefold() in wanted.values(),
            chunksize=_CHUNK_ROWS,
            # A line that is skipped would shift the numbers of those below it.
            skip_blank_lines=False,
            skiprows=1 if above else 0,
            # Else a line longer than the header makes its first cells an index and shifts every column.
            index_col=False,
        ) as chunks:
            for chunk in chunks:
                yield _named(chunk, wanted)
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        ValueError,
    ) as error:
        if isinstance(error, EchofmError):
            raise
        raise EchofmError(f"{path.name} is no readable CSV table; export it again as comma-separated UTF-8") from None


def folded(name: str) -> str:
    """A column's name as names are compared: `File Name`, `file_name` and `FileName` are one."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def _columns_of(
    names: Sequence[str], table: str, *, columns: Sequence[str], optional: Sequence[str]
) -> dict[str, str | None]:
    """Each wanted column's name as the table writes it, None where an optional one is missing."""
    found: dict[str, str | None] = {}
    for wanted in (*columns, *optional):
        exact = [name for name in names if name == wanted.casefold()]
        alike = exact or [name for name in names if folded(name) == folded(wanted)]
        if len(alike) > 1:
            raise EchofmError(f"{table} has the column {wanted} twice; remove one")
        if not alike and wanted in columns:
            raise EchofmError(f"{table} has no column {wanted}; this data set needs {', '.join(columns)}")
        found[wanted] = alike[0] if alike else None
    return found


def _named(chunk: pd.DataFrame, wanted: dict[str, str | None]) -> pd.DataFrame:
    chunk = chunk.rename(columns=lambda name: str(name).strip().casefold())
    # A line cut short leaves NaN where its cells are missing.
    cells = {name: "" if column is None else chunk[column].fillna("").str.strip() for name, column in wanted.items()}
    chunk = pd.DataFrame(cells, index=chunk.index)
    return chunk[(chunk != "").any(axis=1)]


def place(table: str, row: int, column: str) -> str:
    """Where a cell is, for errors and notes. row: as in the index of `read_table`."""
    return f"{table}, row {row + 1} below the header, column {column}"


def shown(cell: str) -> str:
    """A cell's word for an error: a short one of letters, or a small number; else only what it is like."""
    if re.fullmatch(r"[A-Za-z][A-Za-z_-]{0,23}|\d{1,3}", cell):
        return repr(cell)
    return "a long number" if cell.replace(".", "").isdigit() else f"something of {len(cell)} characters"


def _head(path: Path) -> tuple[str, str]:
    """The first bytes as text, and its encoding. Raises EchofmError where they are no text."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise EchofmError(f"{path.name} is cut or no gzip file; download it again") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        # What Excel calls Unicode text. The last bytes may be half a letter.
        return head.decode("utf-16", "ignore"), "utf-16"
    if b"\0" in head:
        raise EchofmError(f"{path.name} is binary, not a CSV table; export it again as comma-separated UTF-8")
    if not head.strip():
        raise EchofmError(f"{path.name} is empty; download it again")
    return head.decode(_UTF8, "surrogateescape"), _UTF8


def separator(head: str) -> str:
    """Comma, semicolon or tab: whichever the first line has most."""
    first_line = head.partition("\n")[0]
    return max(",;\t", key=first_line.count)


def head_of(path: Path) -> str:
    """The first lines as text. Raises EchofmError where the file holds none, OSError where it cannot be read."""
    head = _head(path)[0]
    return _SEP_LINE.sub("", head, count=1) if _SEP_LINE.match(head) else head


def header_cells(head: str) -> list[str]:
    """The first line's cells, stripped; one in quotes may go over several lines, as spreadsheets write it."""
    lines = head.splitlines(keepends=True)
    try:
        return [cell.strip() for cell in next(csv.reader(lines, delimiter=separator(head)), [])]
    except csv.Error:
        return []


def _names(head: str) -> list[str]:
    return [cell.casefold() for cell in header_cells(head)]


def once(table: pd.DataFrame, key: str, notes: Counter[str], name: str) -> list[dict[str, str]]:
    """The table's lines sorted by a column, the first of each value; what repeats a value is counted."""
    twice = table[key].duplicated()
    if twice.any():
        notes[f"lines of {name} that name a file again"] += int(twice.sum())
    return table[~twice].sort_values(key).to_dict("records")


def outlines(
    table: pd.DataFrame, *, video: str, frame: str, points: Sequence[str]
) -> Iterator[tuple[str, int, npt.NDArray[np.float32]]]:
    """(video, frame, points (P, len(points))) of each traced frame; the lines of one keep their order.

    By sorting once: a group at a time takes half a minute over EchoNet-Dynamic's 400,000 lines.
    """
    if table.empty:
        return
    groups = table.groupby([video, frame], sort=False).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[order])) + 1
    firsts = table[[video, frame]].iloc[order[np.concatenate([[0], bounds])]]
    arrays = np.split(table[list(points)].to_numpy(np.float32)[order], bounds)
    for (name, number), array in zip(firsts.itertuples(index=False, name=None), arrays):
        yield str(name), int(number), array


def numeric(table: pd.DataFrame, columns: tuple[str, ...], notes: Counter[str], name: str) -> pd.DataFrame:
    """The rows whose cells are all numbers, with those columns as numbers; the others are counted."""
    values = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    good = np.isfinite(values.to_numpy(float)).all(axis=1)
    if not good.all():
        notes[f"rows of {name} with a cell that is no number"] += int((~good).sum())
    return table.assign(**{column: values[column] for column in columns})[good]
