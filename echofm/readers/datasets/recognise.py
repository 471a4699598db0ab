"""Which data set a folder is, also where it lies some folders deeper, as downloads and double unpacking leave it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from echofm.errors import EchofmError
from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.folder import Folder
from echofm.readers.datasets.generic import GENERIC
from echofm.readers.datasets.walk import MANIFEST, Notes, media_files
from echofm.readers.suffixes import STILL, media_suffix

# physionet.org/files/mimic-iv-echo/1.0 below the folder of downloads.
_DEPTH = 4
_MOST_FOLDERS = 5000
# Parts of the names under which the public sets come.
_SETS_WORDS: tuple[str, ...] = (
    *("echo", "dynamic", "ped_", "synthetic", "lvh", "camus", "tmed", "approved_users", "mimic", "physionet"),
    *("cardiac", "hmc", "wall", "rwma", "uda", "udc", "a4c", "psax", "files", "1.0", "0.1"),
)


def recognised(root: Path, adapters: Sequence[Adapter]) -> tuple[Adapter, Path]:
    """The data set and the folder in which it lies, `root` or one below; any folder where there is none.

    Raises EchofmError, with the folders to give instead, where several sets lie below, or one beside other echo files:
    read as any folder they would lose their labels and splits.
    """
    found = _first(Folder(root), adapters)
    if found is not None:
        return found, root
    if (root / MANIFEST).is_file():
        return GENERIC, root
    below = list(_below(root, adapters))
    if not below:
        return GENERIC, root
    named = " and ".join(f"{adapter.title} in {shown(home, root)}" for adapter, home in below[:8])
    way_out = "give one of these folders (--dataset folder takes all files as any folder's, without their tables)"
    if len(below) > 1:
        raise EchofmError(f"several data sets lie below the folder given: {named}; {way_out}")
    if len(adapters) == 1:
        # It was asked for by its name.
        return below[0]
    homes = {home for _, home in below}
    others = (path for path in media_files(root, Notes()) if not homes & set(path.parents))
    if any(media_suffix(path) not in STILL for path in others):
        raise EchofmError(f"a data set lies below the folder given, beside other echo files: {named}; {way_out}")
    return below[0]


def above(root: Path, adapters: Sequence[Adapter]) -> Adapter | None:
    """The set that a folder is a part of, where the folders above it are one."""
    return next((found for path in root.parents[:3] if (found := _first(Folder(path), adapters)) is not None), None)


def shown(path: Path, root: Path) -> str:
    """A folder below `root`, its parts in clear where they are a public set's own names, else `*`."""
    parts = path.relative_to(root).parts
    return "/".join(part if any(word in part.casefold() for word in _SETS_WORDS) else "*" for part in parts)


def _first(folder: Folder, adapters: Sequence[Adapter]) -> Adapter | None:
    return next((each for each in adapters if each is not GENERIC and each.recognises(folder)), None)


def _below(root: Path, adapters: Sequence[Adapter]) -> Iterator[tuple[Adapter, Path]]:
    """Sets below a folder, the upper ones first; none is looked for inside another."""
    todo, seen = deque([(root, 0)]), 0
    while todo and seen < _MOST_FOLDERS:
        path, depth = todo.popleft()
        seen += 1
        folder = Folder(path)
        found = _first(folder, adapters) if depth else None
        if found is not None:
            yield found, path
        elif depth < _DEPTH:
            todo.extend((inner, depth + 1) for inner in folder.folders if not inner.is_symlink())
