"""EchoNet-LVH (Duffy et al., JAMA Cardiology 2022): MeasurementsList.csv and Batch1/ to Batch4/, parasternal long axis.

The table has one line per caliper measurement, several per video. https://echonet.github.io/lvh/
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from echofm.clip import Label
from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.labels import given_split, number
from echofm.readers.datasets.table import header, read_table
from echofm.readers.datasets.walk import Notes, listing
from echofm.readers.source import Row

_TABLE = "MeasurementsList.csv"
_COLUMNS = ("HashedFileName", "Calc", "CalcValue", "split")
_NAMES = {"ivsd": "ivsd_cm", "lvidd": "lvidd_cm", "lvids": "lvids_cm", "lvpwd": "lvpwd_cm"}


def _is_lvh(root: Path) -> bool:
    return {"hashedfilename", "calc", "calcvalue"} <= set(header(root / _TABLE))


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    table = read_table(root / _TABLE, columns=_COLUMNS)
    table["HashedFileName"] = table["HashedFileName"].str.removesuffix(".avi")
    # The table does not say which batch a video is in.
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and path.name.startswith("Batch"))]
    videos: dict[str, Path] = {}
    for folder in folders:
        for name, path in listing(folder, notes).items():
            if name.endswith(".avi") and videos.setdefault(name.removesuffix(".avi"), path) is not path:
                notes["videos that lie in two batches (the first is taken)"] += 1
    for stem, lines in table.groupby("HashedFileName", sort=True):
        video = videos.pop(str(stem), None)
        if video is None:
            notes[f"videos in {_TABLE} that are in no Batch folder"] += 1
            continue
        splits = {given_split(cell, table=_TABLE, column="split") for cell in lines["split"].unique()}
        if len(splits) > 1:
            notes["videos with two splits in the table (none is taken)"] += 1
        yield Row(
            path=video,
            patient=f"echonet-lvh/{stem}",
            split=splits.pop() if len(splits) == 1 else None,
            view="PLAX",
            kind="bmode",
            labels=_labels(lines, notes),
        )
    if videos:
        notes[f"videos that {_TABLE} does not name (left out)"] += len(videos)


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


LVH = Adapter(
    name="echonet-lvh",
    title="EchoNet-LVH",
    recognises=_is_lvh,
    rows=_rows,
    patient_rule="one video per patient",
)
