"""FolderCopy: some of a folder's clips, byte for byte, where they lay; its tables without the rows of the others."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

from echofm.errors import EchofmError
from echofm.readers.datasets.walk import stem_of

_MOST_TABLE_BYTES = 1 << 30
# Columns by which the known layouts' tables name a video, and a manifest its file.
_NAMING = ("filename", "path", "file", "video")


class FolderCopy:
    """Tell it of every clip whether it stays; `finish` then copies what belongs to those that do.

    A file beside the clips (truth, masks) belongs to the clip whose stem it has. Tables keep the header and the rows
    that name a kept clip, as they were written. What belongs to no clip is copied only if it is the phantom's marker.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self._root = root if root.is_dir() else root.parent
        self._out = out
        self._kept: set[str] = set()
        self._left: set[str] = set()
        self._clips: set[Path] = set()

    def keep(self, path: Path) -> None:
        """Copy one clip."""
        self._kept.add(stem_of(path))
        self._clips.add(path)
        self._copy(path)

    def leave(self, path: Path) -> None:
        """Leave one clip out."""
        self._left.add(stem_of(path))
        self._clips.add(path)

    def finish(self) -> Counter[str]:
        """Copy tables and companions; counts of the other files by what became of them."""
        done: Counter[str] = Counter()
        for folder, folders, names in os.walk(self._root, followlinks=False):
            folders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if path in self._clips:
                    continue
                done[self._other(path)] += 1
        return done

    def _other(self, path: Path) -> str:
        if path.is_symlink() or not path.is_file():
            return "links or no plain files, left out"
        if path.suffix.lower() == ".csv":
            self._table(path)
            return "tables, written without the rows of clips left out"
        owner = self._owner(path)
        if path.name == "phantom.json" or (owner in self._kept and owner not in self._left):
            self._copy(path)
            return "companions of kept clips, copied"
        return "companions of clips left out" if owner in self._left else "that belong to no clip, left out"

    def _owner(self, path: Path) -> str | None:
        """The clip whose stem a file's name is, or begins with before a dot, dash or underscore; the longest such."""
        name = stem_of(path)
        while name:
            if name in self._kept or name in self._left:
                return name
            name = name[: max(name.rfind(mark) for mark in "._-")] if any(mark in name for mark in "._-") else ""
        return None

    def _table(self, path: Path) -> None:
        if path.stat().st_size > _MOST_TABLE_BYTES:
            raise EchofmError(f"a table of the set has more than {_MOST_TABLE_BYTES >> 30} GiB; it cannot be filtered")
        # As bytes, so that line ends stay; what is no UTF-8 passes through unchanged.
        lines = [line.decode("utf-8", "surrogateescape") for line in path.read_bytes().splitlines(keepends=True)]
        reader = csv.reader(lines)
        try:
            columns = [name.strip().casefold() for name in next(reader, [])]
            kept, first = lines[: reader.line_num], reader.line_num
            for cells in reader:
                # A row may take several lines.
                if self._stays(columns, cells):
                    kept += lines[first : reader.line_num]
                first = reader.line_num
        except csv.Error:
            raise EchofmError(f"the table {path.name} is no CSV that can be read; mend it or take it out") from None
        self._target(path).write_bytes("".join(kept).encode("utf-8", "surrogateescape"))

    def _stays(self, columns: list[str], cells: list[str]) -> bool:
        """Rows that name a clip stay with it; those that name none that we know go with the clips left out."""
        named = [cell for column, cell in zip(columns, cells) if column in _NAMING]
        return bool(named) and all(stem_of(Path(cell)) in self._kept for cell in named)

    def _copy(self, path: Path) -> None:
        try:
            shutil.copyfile(path, self._target(path))
        except OSError as error:
            raise EchofmError(f"a file of the set cannot be copied ({error.strerror}); check --out") from None

    def _target(self, path: Path) -> Path:
        target = self._out / path.relative_to(self._root)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
