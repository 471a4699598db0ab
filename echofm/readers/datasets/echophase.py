"""UNITY EchoPhase (Lane et al., 2021), in the layout that the authors' code reads: apical four-chamber cines.

data/{train,test}/ with the videos beside labels.csv (Video frame name, Label) and video_info.csv (Dataset, Video
filename, Number of frames). What the labels of the frames mean is not documented, so no phase is read.
https://github.com/intsav/EchoPhaseDetection
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from echofm.readers.datasets.folder import TABLES, Folder, Notes, media_files
from echofm.readers.datasets.labels import LEFT_OUT, with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.source import Row
from echofm.readers.suffixes import MEDIA, media_suffix, stem_of

_TABLE = "video_info.csv"
_COLUMNS = ("Dataset", "Video filename")


def _home(root: Folder) -> Folder:
    return Folder(root.folder("data") or root.path)


def recognises(root: Folder) -> bool:
    home = _home(root)
    return home.has(_TABLE, *_COLUMNS) and home.folder("train", "test") is not None


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    home = _home(Folder(root))
    table = with_splits(read_table(home.needed(_TABLE), columns=_COLUMNS), "Dataset", notes, name=_TABLE)
    splits = {_stem(name): split for name, split in zip(table["Video filename"], table["split"])}
    for path in media_files(home.path, notes, tables=TABLES):
        split = splits.pop(stem_of(path), None)
        if split is None:
            notes[f"videos that {_TABLE} does not name (left out)"] += 1
        elif split != LEFT_OUT:
            # Two clips of one video count as one patient: nothing tells whether they are.
            patient = f"unity-echophase/{stem_of(path).split('_')[0]}"
            yield Row(path=path, patient=patient, split=split or None, view="A4C", kind="bmode")
    if splits:
        notes[f"videos in {_TABLE} that are not in the folder"] += len(splits)
    if home.table("labels.csv") is not None:
        notes["tables not read: labels.csv of the frames, whose meaning is not documented"] += 1


def _stem(name: str) -> str:
    return stem_of(Path(name)) if media_suffix(name) in MEDIA else name
