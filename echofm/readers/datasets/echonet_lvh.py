"""EchoNet-LVH (Duffy et al., JAMA Cardiology 2022): MeasurementsList.csv and Batch1/ to Batch4/, parasternal long axis.

The table has one line per caliper measurement, several per video. https://echonet.github.io/lvh/
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from echofm.clip import Label
from echofm.readers.datasets.folder import Folder, Notes, listing, unpacked
from echofm.readers.datasets.labels import LEFT_OUT, number, with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.source import Row
from echofm.readers.suffixes import VIDEO, media_suffix, stem_of

_TABLE = "MeasurementsList.csv"
_COLUMNS = ("HashedFileName", "Calc", "CalcValue", "split")
_NAMES = {"ivsd": "ivsd_cm", "lvidd": "lvidd_cm", "lvids": "lvids_cm", "lvpwd": "lvpwd_cm"}


def recognises(folder: Folder) -> bool:
    return folder.has(_TABLE, "HashedFileName", "Calc", "CalcValue")


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    folder = Folder(root)
    table = with_splits(read_table(folder.needed(_TABLE), columns=_COLUMNS), "split", notes, name=_TABLE)
    table["HashedFileName"] = table["HashedFileName"].map(_stem)
    videos = _videos(folder, notes)
    for stem, lines in table.groupby("HashedFileName", sort=True):
        video = videos.pop(str(stem), None)
        if video is None:
            notes[f"videos in {_TABLE} that are in no Batch folder"] += 1
            continue
        splits = set(lines["split"])
        if splits == {LEFT_OUT}:
            continue
        if len(splits) > 1:
            notes["videos with two splits in the table (none is taken)"] += 1
        yield Row(
            path=video,
            patient=f"echonet-lvh/{stem}",
            split=(splits.pop() or None) if len(splits) == 1 else None,
            view="PLAX",
            kind="bmode",
            labels=_labels(lines, notes),
        )
    if videos:
        notes[f"videos that {_TABLE} does not name (left out)"] += len(videos)


def _stem(name: str) -> str:
    return stem_of(Path(name)) if media_suffix(name) in VIDEO else name


def _videos(folder: Folder, notes: Notes) -> dict[str, Path]:
    """Videos by stem: the table does not say which batch one is in, and some copies put all into one folder."""
    found: dict[str, Path] = {}
    batches = (path for path in folder.folders if path.name.casefold().startswith(("batch", "videos")))
    for home in (folder.path, *map(unpacked, batches)):
        for path in listing(home, notes).values():
            if media_suffix(path) in VIDEO and found.setdefault(stem_of(path), path) is not path:
                notes["videos that lie in two batches (the first is taken)"] += 1
    return found


def _labels(lines: pd.DataFrame, notes: Notes) -> dict[str, Label]:
    """Mean of each measurement in centimetres: several beats of one video may be measured."""
    values: dict[str, list[float]] = {}
    for calc, cell in zip(lines["Calc"], lines["CalcValue"]):
        name, value = _NAMES.get(calc.casefold()), number(cell)
        if name is None or value is None:
            notes[f"lines of {_TABLE} of another measurement, or without a value"] += 1
        else:
            values.setdefault(name, []).append(value)
    return {name: round(statistics.fmean(found), 4) for name, found in sorted(values.items())}
