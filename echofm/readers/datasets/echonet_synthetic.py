"""EchoNet-Synthetic (Reynaud et al., MICCAI 2024): dynamic/, ped_a4c/ and ped_psax/, each in EchoNet-Dynamic's layout.

Generated videos named sample_NNNNNN, the same names in each of the three; so is a generator's own output, with a folder
for each format. https://github.com/HReynaud/EchoNet-Synthetic
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from echofm.readers.datasets.echonet_dynamic import COLUMNS, TABLE, VIDEOS, listed_videos, ventricle
from echofm.readers.datasets.echonet_dynamic import recognises as is_list
from echofm.readers.datasets.folder import Folder, Notes, unpacked
from echofm.readers.datasets.labels import with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.datasets.truth import is_phantom
from echofm.readers.source import Row

_SETS = {"dynamic": "A4C", "ped_a4c": "A4C", "ped_psax": "PSAX"}
# What there is beyond the counterpart of each real video: of no real split, and generated to train on.
_EXTRA = {"extra": "train"}


def _is_one(folder: Folder) -> bool:
    """Whether it is one of the sets, or what a generator wrote: only the videos' names tell it from a real set."""
    home = folder.folder(*VIDEOS)
    if home is None or not is_list(folder) or is_phantom(folder.path):
        return False
    inside = Folder(unpacked(home))
    names = [path.name for path in (*inside.files, *inside.folders)]
    return bool(names) and all(name.startswith("sample_") for name in (names[0], names[-1]))


def _sets(root: Folder) -> list[Folder]:
    found = (Folder(path) for path in map(root.folder, _SETS) if path is not None)
    return [folder for folder in found if folder.table(TABLE) is not None]


def recognises(root: Folder) -> bool:
    return _is_one(root) or any(map(_is_one, _sets(root)))


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    for each in _sets(Folder(root)) or [Folder(root)]:
        yield from _set_rows(each, notes)


def _set_rows(folder: Folder, notes: Notes) -> Iterator[Row]:
    name = _set_name(folder.path)
    table = read_table(folder.needed(TABLE), columns=COLUMNS)
    extra = int((table["Split"].str.casefold() == "extra").sum())
    if extra:
        notes[f"videos of the split EXTRA in {TABLE}, which count as train"] += extra
    table = with_splits(table, "Split", notes, name=TABLE, further=_EXTRA)
    for cells, stem, path in listed_videos(table, folder, notes):
        yield Row(
            path=path,
            patient=f"echonet-synthetic/{name}/{stem}" if name else f"echonet-synthetic/{stem}",
            split=cells["split"] or None,
            view=_SETS.get(name),
            kind="bmode",
            labels=ventricle(cells, notes),
        )


def _set_name(folder: Path) -> str:
    """Which of the three sets a folder is, by its own name or the one above; "": a generator's own output."""
    for name in (folder.name.casefold(), folder.parent.name.casefold()):
        for key in ("ped_psax", "ped_a4c", "dynamic"):
            if key in name or key.removeprefix("ped_") in name:
                return key
    return ""
