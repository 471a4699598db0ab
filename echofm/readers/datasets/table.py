"""The tables that come with data sets: CSV read as text, checked, never trusted."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from echofm.errors import EchofmError

MAX_TABLE_MB = 1024
_CHUNK_ROWS = 200_000
_HEAD_BYTES = 65536


def header(path: Path) -> list[str]:
    """Column names of a table, stripped and lower-case; empty where there is no such file or it holds no text."""
    try:
        first = _head(path).splitlines()[0]
    except (OSError, EchofmError, IndexError):
        return []
    return [name.strip().strip('"').casefold() for name in first.split(_separator(first))]


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
        separator = _separator(_head(path).split("\n", 1)[0])
        size_mb = path.stat().st_size / 2**20
    except OSError as error:
        raise EchofmError(f"{path.name} cannot be read ({error.strerror}); the data set needs this table") from None
    if size_mb > MAX_TABLE_MB:
        raise EchofmError(f"{path.name} has {size_mb:.0f} MB; a table of this data set is below {MAX_TABLE_MB} MB")
    wanted = {name.casefold(): name for name in (*columns, *optional)}
    try:
        with pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            encoding_errors="surrogateescape",
            usecols=lambda name: str(name).strip().casefold() in wanted,
            chunksize=_CHUNK_ROWS,
            # Else a line longer than the header makes its first cells an index and shifts every column.
            index_col=False,
        ) as chunks:
            for chunk in chunks:
                yield _named(chunk, path.name, wanted, columns)
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


def _named(chunk: pd.DataFrame, table: str, wanted: dict[str, str], required: Sequence[str]) -> pd.DataFrame:
    chunk = chunk.rename(columns=lambda name: wanted[str(name).strip().casefold()])
    twice = chunk.columns[chunk.columns.duplicated()]
    if len(twice):
        raise EchofmError(f"{table} has the column {twice[0]} twice; remove one")
    for name in required:
        if name not in chunk.columns:
            raise EchofmError(f"{table} has no column {name}; this data set needs {', '.join(required)}")
    # An unclosed last line leaves NaN where cells are missing.
    return chunk.reindex(columns=list(wanted.values())).fillna("").apply(lambda column: column.str.strip())


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


def _separator(first_line: str) -> str:
    return max(",;\t", key=first_line.count)
