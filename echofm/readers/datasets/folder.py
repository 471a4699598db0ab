"""Folder: one folder as data sets look at it, its names without regard to case, listed once; doubled ones."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from echofm.readers.datasets.table import folded, header
from echofm.readers.formats import HEAD_BYTES, is_known
from echofm.readers.frames import frame_files, is_one_clip
from echofm.readers.suffixes import UNREAD, is_companion, is_media, unread_kind

# A table of one's own about the files of a folder.
MANIFEST = "manifest.csv"
# Of a public set's own tables.
TABLES = (".csv", ".xlsx", ".xls")


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


class Notes(Counter[str]):
    """What a walk passed over, in words. `unread`: files of kinds that are not read, by suffix.

    doubt: why it is not known who the patients are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unread: Counter[str] = Counter()
        self.doubt: str | None = None

    def clear(self) -> None:
        super().clear()
        self.unread.clear()
        self.doubt = None


def is_echo_file(path: Path) -> bool:
    """Whether a regular file is echo media: by suffix, else, as DICOM exports often have none, by its first bytes."""
    if is_media(path):
        return True
    if path.suffix.lower() in UNREAD:
        return False
    try:
        with open(path, "rb") as file:
            return is_known(file.read(HEAD_BYTES))
    except OSError:
        # By its name it need not be an echo; a file with an echo's suffix is yielded and refused by its reader.
        return False


def media_files(
    root: Path, notes: Notes, *, frames_as_clips: bool = False, tables: Collection[str] = ()
) -> Iterator[Path]:
    """Echo files below `root`, folder by folder, sorted by the bytes of their names.

    frames_as_clips: a folder of nothing but the numbered frames of one recording is yielded itself, as one clip.
    tables: suffixes of the set's own tables, which are no files passed over.

    Links to folders are followed, each folder once. What is passed over is counted in `notes`: folders that cannot
    be listed, links in a loop, pipes and devices (opening one would wait for ever), files of kinds that are not read.
    """
    seen: set[tuple[int, int]] = set()

    def unreadable(_: OSError) -> None:
        notes["folders that cannot be listed"] += 1

    for folder, subfolders, names in os.walk(root, onerror=unreadable, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            notes["folders reached twice through links"] += 1
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # `.` begins what a Mac or an editor leaves behind; `__MACOSX` is what a zip made on a Mac adds.
        subfolders[:] = sorted((n for n in subfolders if not n.startswith((".", "__MACOSX"))), key=os.fsencode)
        if frames_as_clips and not subfolders and is_clip_of_frames(Path(folder)):
            notes["pictures that are the frames of a clip, a folder each"] += len(frame_files(Path(folder)))
            yield Path(folder)
            continue
        for name in sorted(names, key=os.fsencode):
            path = Path(folder, name)
            if not is_regular(path, notes):
                continue
            if not name.startswith(".") and is_echo_file(path):
                yield path
            elif not is_companion(path) and path.suffix.lower() not in tables:
                notes.unread[unread_kind(path)] += 1


def is_clip_of_frames(folder: Path) -> bool:
    """Whether a folder holds the numbered frames of one recording and nothing else."""
    files = frame_files(folder)
    return bool(files) and is_one_clip(files)


def is_regular(path: Path, notes: Notes) -> bool:
    """Whether the path leads to a regular file; what does not is counted."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        notes["links that lead nowhere"] += 1
        return False
    if not stat.S_ISREG(mode):
        notes["pipes, sockets or devices"] += 1
        return False
    return True


def listing(folder: Path, notes: Notes) -> dict[str, Path]:
    """Regular files of one folder by name; empty where it is missing or cannot be listed (counted)."""
    try:
        names = sorted(os.listdir(folder), key=os.fsencode)
    except FileNotFoundError:
        return {}
    except OSError:
        notes["folders that cannot be listed"] += 1
        return {}
    return {
        name: folder / name
        for name in names
        if not name.startswith(".") and not (folder / name).is_dir() and is_regular(folder / name, notes)
    }
