"""FolderCopy: some of a folder's clips, byte for byte, where they lay; its tables without the rows of the others;
and which clips a table's cell, or the name of a file beside them, means."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from echofm.errors import EchofmError, os_errors_as
from echofm.readers.datasets.table import separator
from echofm.readers.frames import frame_files
from echofm.readers.suffixes import DICOM, GIF, VIDEO, stem_of

_MOST_TABLE_BYTES = 1 << 30
# Columns by which the known layouts' tables name a video, and a manifest its file.
_NAMING = ("filename", "hashedfilename", "dicom_filepath", "query_key", "path", "file", "video")
# Masks and truth beside a clip are none of these.
_CLIPS = VIDEO | DICOM | GIF
_NUMBER = re.compile(r"[-+]?[\d.,]*")


class FolderCopy:
    """Tell it of every clip whether it stays; `finish` then copies what belongs to those that do.

    A file beside the clips (truth, masks) goes with the clip that its name means (`ClipNames.companion`). Tables keep
    the header and the rows that name a kept clip, as they were written. What belongs to no clip, a table that names
    none among it, is copied only if it is the phantom's marker. A video that nobody told of is never copied: nobody
    audited it.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self._root = root if root.is_dir() else root.parent
        self._out = out
        self._names = ClipNames()
        self._clips: set[Path] = set()

    def keep(self, path: Path) -> None:
        """Copy one clip: a file, or a folder of frames."""
        self._add(path, stays=True)
        for each in frame_files(path) or [path]:
            self._copy(each)

    def leave(self, path: Path) -> None:
        """Leave one clip out."""
        self._add(path, stays=False)

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

    def _add(self, path: Path, *, stays: bool) -> None:
        self._names.add(self._below_root(path), stays=stays)
        self._clips.update(frame_files(path) or [path])

    def _other(self, path: Path) -> str:
        if path.is_symlink() or not path.is_file():
            return "links or no plain files, left out"
        if path.suffix.lower() == ".csv":
            return self._table(path)
        if path.suffix.lower() in _CLIPS:
            return "videos that the set does not name, left out"
        stays = self._names.companion(self._below_root(path))
        if path.name == "phantom.json" or stays:
            self._copy(path)
            return "companions of kept clips, copied"
        return "that belong to no clip, left out" if stays is None else "companions of clips left out"

    def _table(self, path: Path) -> str:
        if path.stat().st_size > _MOST_TABLE_BYTES:
            raise EchofmError(f"a table of the set has more than {_MOST_TABLE_BYTES >> 30} GiB; it cannot be filtered")
        # As bytes, so that line ends stay; what is no UTF-8 passes through unchanged.
        lines = [line.decode("utf-8", "surrogateescape") for line in path.read_bytes().splitlines(keepends=True)]
        rows = _rows(lines, path.name)
        header = [name.strip().casefold() for name in next(rows, ([], []))[0]]
        body = list(rows)
        folder = self._below_root(path).parent
        naming = self._naming(header, [cells for cells, _ in body], folder)
        if not naming:
            return "tables that name no clip, left out"
        kept = lines[: len(lines) - sum(len(own) for _, own in body)]
        for cells, own in body:
            named = [cells[position] for position in naming if position < len(cells)]
            # Rows that name a clip nobody told us of go with the clips left out.
            if named and all(self._names.cell(cell, folder=folder) for cell in named):
                kept += own
        self._target(path).write_bytes("".join(kept).encode("utf-8", "surrogateescape"))
        return "tables, written without the rows of clips left out"

    def _naming(self, header: list[str], rows: list[list[str]], folder: PurePosixPath) -> list[int]:
        """The columns that name clips: those called so, else those of which most cells name one."""
        columns = [[cells[position] for cells in rows if position < len(cells)] for position in range(len(header))]
        known = [[self._names.cell(cell, folder=folder) is not None for cell in cells] for cells in columns]
        called = [position for position, name in enumerate(header) if name in _NAMING and any(known[position])]
        # Numbers can be the names of clips by chance.
        return called or [
            position
            for position, cells in enumerate(columns)
            if 2 * sum(known[position]) > len(cells) and not all(_NUMBER.fullmatch(cell.strip()) for cell in cells)
        ]

    def _below_root(self, path: Path) -> PurePosixPath:
        return PurePosixPath(path.relative_to(self._root).as_posix())

    def _copy(self, path: Path) -> None:
        with os_errors_as("a file of the set cannot be copied ({reason}); check --out"):
            shutil.copyfile(path, self._target(path))

    def _target(self, path: Path) -> Path:
        target = self._out / path.relative_to(self._root)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _rows(lines: list[str], name: str) -> Iterator[tuple[list[str], list[str]]]:
    """(cells, the lines that they take up), the header first; an Excel export's byte-order mark is no part of it."""
    own = [lines[0].removeprefix("\ufeff"), *lines[1:]] if lines else []
    reader = csv.reader(own, delimiter=separator(own[0] if own else ""))
    first = 0
    try:
        for cells in reader:
            yield cells, lines[first : reader.line_num]
            first = reader.line_num
    except csv.Error:
        raise EchofmError(f"the table {name} is no CSV that can be read; mend it or take it out") from None


_MARK = re.compile(r"[._-]")


class ClipNames:
    """Clips by their path below the set's root. A name that several clips have means them all; it stays if all do."""

    def __init__(self) -> None:
        self._stays: dict[PurePosixPath, bool] = {}
        self._of_stem: defaultdict[str, set[PurePosixPath]] = defaultdict(set)
        self._of_part: defaultdict[tuple[PurePosixPath, str], set[PurePosixPath]] = defaultdict(set)
        self._in_folder: defaultdict[PurePosixPath, set[PurePosixPath]] = defaultdict(set)

    def add(self, path: PurePosixPath, *, stays: bool) -> None:
        """A clip, by its path below the root."""
        clip = _named(path)
        self._stays[clip] = self._stays.get(clip, True) and stays
        self._of_stem[clip.name].add(clip)
        self._in_folder[clip.parent].add(clip)
        for part in set(_MARK.split(clip.name)):
            self._of_part[clip.parent, part].add(clip)

    def cell(self, text: str, *, folder: PurePosixPath) -> bool | None:
        """Whether what a cell names stays; None where it names no clip. folder: of the table, below the root."""
        path = PurePosixPath(text.strip().replace("\\", "/"))
        named = _named(path)
        if folder / named in self._stays:
            return self._stays[folder / named]
        # A cell may leave the first folders out, or begin above the root.
        return self._all(
            clip
            for clip in self._of_stem.get(named.name, ())
            if all(one == other for one, other in zip(clip.parts[::-1], named.parts[::-1]))
        )

    def companion(self, path: PurePosixPath) -> bool | None:
        """Whether the clips stay that a file goes with; None where it goes with none.

        It goes with the clip whose stem its name is, or begins with before a dot, dash or underscore, the longest
        such, of equals the one in the likest folder. Else with the clips of its folder with which it shares a part of
        the name that not all clips there have: CAMUS's Info_2CH.cfg with patient0001_2CH_half_sequence.
        """
        name = stem_of(Path(path))
        while name:
            if name in self._of_stem:
                return self._all(_likest(self._of_stem[name], path))
            name = name[: max(name.rfind(mark) for mark in "._-")] if _MARK.search(name) else ""
        shared: set[PurePosixPath] = set()
        clips = len(self._in_folder.get(path.parent, ()))
        for part in set(_MARK.split(stem_of(Path(path)))):
            found = self._of_part.get((path.parent, part), set())
            if len(found) < clips or clips == 1:
                shared |= found
        return self._all(shared)

    def _all(self, clips: Iterable[PurePosixPath]) -> bool | None:
        found = [self._stays[clip] for clip in clips]
        return all(found) if found else None


def _named(path: PurePosixPath) -> PurePosixPath:
    """The path without its suffix."""
    stem = stem_of(Path(path))
    return path.with_name(stem) if stem else path


def _likest(clips: Collection[PurePosixPath], path: PurePosixPath) -> list[PurePosixPath]:
    """Those whose folders agree with the path's furthest, counted from the file upwards."""

    def alike(clip: PurePosixPath) -> int:
        same = [one == other for one, other in zip(clip.parent.parts[::-1], path.parent.parts[::-1])]
        return [*same, False].index(False)

    best = max(map(alike, clips))
    return [clip for clip in clips if alike(clip) == best]
