"""Folder: one folder as data sets look at it, its names without regard to case, listed once; doubled ones."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from echofm.readers.datasets.table import folded, header


def unpacked(path: Path) -> Path:
    """The folder that holds something: unpacking twice leaves one of the same name inside, alone."""
    folder = Folder(path)
    inner = folder.folder(path.name)
    return unpacked(inner) if inner is not None and not folder.files else path


class Folder:
    """A folder's entries by name. Sets are copied between systems, and names change case and are packed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _entries(self) -> dict[str, tuple[Path, bool]]:
        try:
            with os.scandir(self.path) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries]
        except OSError:
            return {}
        # Sorted backwards, so that of two names which differ in case alone the first one stays.
        return {name.casefold(): (self.path / name, is_dir) for name, is_dir in sorted(found, reverse=True)}

    @property
    def folders(self) -> list[Path]:
        """The folders in it, sorted, but for hidden ones and what a zip made on a Mac adds."""
        paths = (path for path, is_dir in self._entries.values() if is_dir)
        return sorted((path for path in paths if not path.name.startswith((".", "__MACOSX"))), key=os.fsencode)

    @property
    def files(self) -> list[Path]:
        """All that is no folder, sorted, but for hidden names."""
        paths = (path for path, is_dir in self._entries.values() if not is_dir)
        return sorted((path for path in paths if not path.name.startswith(".")), key=os.fsencode)

    def folder(self, *names: str) -> Path | None:
        """The first folder of one of these names."""
        found = (self._entries.get(name.casefold(), (self.path, False)) for name in names)
        return next((path for path, is_dir in found if is_dir), None)

    def table(self, *names: str) -> Path | None:
        """The first table of one of these names, plain or packed (.gz)."""
        found = (self._entries.get((name + packed).casefold()) for name in names for packed in ("", ".gz"))
        return next((entry[0] for entry in found if entry is not None and not entry[1]), None)

    def needed(self, name: str) -> Path:
        """The table, or where it should be: reading it tells that it is missing."""
        return self.table(name) or self.path / name

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is a table of this name with these columns."""
        path = self.table(table)
        names = {folded(name) for name in header(path)} if path is not None else set()
        return {folded(name) for name in columns} <= names
