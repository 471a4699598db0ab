"""What encoders, tables and data are called in results: as they were given, and never by a single file's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from echofm.errors import EchofmError
from probe.protocol import METHODS

RANDOM_INIT, PIXEL_PCA, PIXELS = "random init", "pixel PCA", "pixels"
# Rows of a result that a source's own name must not take the place of.
_TAKEN = METHODS | {RANDOM_INIT, PIXEL_PCA, PIXELS, "pixels and change", "mean mask"}


def names_of(sources: Sequence[str]) -> list[str]:
    """A short name for each: the last part of a folder, two where that is `export`; a spec as it is written.

    " (given)" is added to a name that a result has for something else.
    """
    names = []
    for source in sources:
        parts = Path(source).parts
        if Path(source).is_dir() and parts:
            names.append("/".join(parts[-2:] if parts[-1] == "export" else parts[-1:]))
        else:
            head, _, tail = source.rpartition(":")
            names.append(f"{head}:{Path(tail).name}" if head and "/" in tail else source)
    names = [f"{name} (given)" if name in _TAKEN else name for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EchofmError(f"two encoders or tables have the name {twice[0]!r}; rename a folder")
    return names


def data_name(data: Path | None, test_on: Path | None) -> str:
    """The folders' own names; "" of a table, which says its data sets itself. A single file is not named."""
    named = [each.resolve().name if each.is_dir() else "a file" for each in (data, test_on) if each is not None]
    return ", tested on ".join(named)
