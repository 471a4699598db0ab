"""The tables that come with data sets: CSV read as text, checked, never trusted."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.errors import EchofmError
from echofm.readers.datasets.walk import Notes

MAX_TABLE_MB = 1024
_CHUNK_ROWS = 200_000
_HEAD_BYTES = 65536


def header(path: Path) -> list[str]:
    """Column names of a table, stripped and lower-case; empty where there is no such file or it holds no text."""
    try:
        return _names(_head(path))
    except (OSError, EchofmError):
        return []


def read_table(path: Path, *, columns: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The named columns of a CSV file (plain or .gz), cells as text, "" where empty or in a missing optional column.

    Names are compared without regard to case and outer blanks. Any bytes are accepted in cells: what is no UTF-8
    becomes surrogate escapes, as in file names, so that both match.
    Raises EchofmError naming the table and the column that is missing, or why the file is no table.
    """
    return pd.concat(list(read_chunks(path, columns=columns, optional=optional)), ignore_index=True)


def read_chunks(path: Path, *, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
    """As `read_table`, a part at a time: for tables of millions of rows."""
    try:
        head = _head(path)
        size_mb = path.stat().st_size / 2**20
    except OSError as error:
        raise EchofmError(f"{path.name} cannot be read ({error.strerror}); the data set needs this table") from None
    if size_mb > MAX_TABLE_MB:
        raise EchofmError(f"{path.name} has {size_mb:.0f} MB; a table of this data set is below {MAX_TABLE_MB} MB")
    names = _names(head)
    for name in (*columns, *optional):
        if names.count(name.casefold()) > 1:
            raise EchofmError(f"{path.name} has the column {name} twice; remove one")
    for name in columns:
        if name.casefold() not in names:
            raise EchofmError(f"{path.name} has no column {name}; this data set needs {', '.join(columns)}")
    wanted = {name.casefold(): name for name in (*columns, *optional)}
    try:
        with pd.read_csv(
            path,
            sep=separator(head),
            dtype=object,
            keep_default_na=False,
            encoding="utf-8-sig",
            encoding_errors="surrogateescape",
            usecols=lambda name: str(name).strip().casefold() in wanted,
            chunksize=_CHUNK_ROWS,
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


def _named(chunk: pd.DataFrame, wanted: dict[str, str]) -> pd.DataFrame:
    chunk = chunk.rename(columns=lambda name: wanted[str(name).strip().casefold()])
    for name in wanted.values():
        # A line cut short leaves NaN where its cells are missing.
        chunk[name] = chunk[name].fillna("").str.strip() if name in chunk.columns else ""
    return chunk


def _head(path: Path) -> str:
    """The first bytes as text. Raises EchofmError where they are no text."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise EchofmError(f"{path.name} is cut or no gzip file; download it again") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise EchofmError(f"{path.name} is UTF-16; save it as CSV in UTF-8")
    if b"\0" in head:
        raise EchofmError(f"{path.name} is binary, not a CSV table; export it again as comma-separated UTF-8")
    if not head.strip():
        raise EchofmError(f"{path.name} is empty; download it again")
    return head.decode("utf-8-sig", "surrogateescape")


def separator(head: str) -> str:
    """Comma, semicolon or tab: whichever the first line has most."""
    first_line = head.partition("\n")[0]
    return max(",;\t", key=first_line.count)


def _names(head: str) -> list[str]:
    cells = next(csv.reader(head.splitlines()[:1], delimiter=separator(head)))
    return [cell.strip().casefold() for cell in cells]


def once(table: pd.DataFrame, key: str, notes: Notes, name: str) -> list[dict[str, str]]:
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


def numeric(table: pd.DataFrame, columns: tuple[str, ...], notes: Notes, name: str) -> pd.DataFrame:
    """The rows whose cells are all numbers, with those columns as numbers; the others are counted."""
    values = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    good = np.isfinite(values.to_numpy(float)).all(axis=1)
    if not good.all():
        notes[f"rows of {name} with a cell that is no number"] += int((~good).sum())
    return table.assign(**{column: values[column] for column in columns})[good]
