"""EchoNet-Pediatric (Reddy et al., JASE 2023): A4C/ and PSAX/, each with FileList.csv, VolumeTracings.csv, Videos/.

Files are named patient-accession-instance.avi; Split is a fold from 0 to 9. https://echonet.github.io/pediatric/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from echofm.clip import Label
from echofm.errors import EchofmError
from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.labels import number, numbers, sex
from echofm.readers.datasets.table import header, numeric, once, outlines, read_table
from echofm.readers.datasets.truth import LeftVentricleTraces, Polygons, phantom_truth
from echofm.readers.datasets.walk import Notes, listing
from echofm.readers.source import Row

_VIEWS = ("A4C", "PSAX")
_COLUMNS = ("FileName", "EF", "Split")
_OPTIONAL = ("Sex", "Age", "Weight", "Height")
# Ten folds and three splits: the last fold is for testing, the one before it for validation.
_SPLIT_OF_FOLD = dict.fromkeys(range(8), "train") | {8: "val", 9: "test"}


def _is_pediatric(root: Path) -> bool:
    folders = [root, *(root / view for view in _VIEWS)]
    return any({"filename", "ef", "split", "weight"} <= set(header(folder / "FileList.csv")) for folder in folders)


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    if (root / "FileList.csv").is_file():
        # One view's folder was given; its own name says which view.
        view = root.name.upper()
        yield from _view_rows(root, root.parent, view if view in _VIEWS else None, notes)
        return
    for view in _VIEWS:
        if (root / view).is_dir():
            yield from _view_rows(root / view, root, view, notes)
        else:
            notes[f"views not here: {view}"] += 1


def _view_rows(folder: Path, root: Path, view: str | None, notes: Notes) -> Iterator[Row]:
    table_name = f"{view}/FileList.csv" if view else "FileList.csv"
    table = read_table(folder / "FileList.csv", columns=_COLUMNS, optional=_OPTIONAL)
    videos = {name.removesuffix(".avi"): path for name, path in listing(folder / "Videos", notes).items()}
    traces = _traces(tracings := folder / "VolumeTracings.csv", notes)
    table["FileName"] = table["FileName"].str.removesuffix(".avi")
    for cells in once(table, "FileName", notes, table_name):
        stem = cells["FileName"]
        path = videos.pop(stem, None)
        if path is None:
            notes[f"videos in {table_name} that are not in Videos/"] += 1
            continue
        fold = _fold(cells["Split"], table_name)
        truth = phantom_truth(folder, stem) or phantom_truth(root, stem)
        if truth is None and stem in traces:
            truth = LeftVentricleTraces(traces[stem], table=tracings)
        yield Row(
            path=path,
            patient=f"echonet-pediatric/{stem.split('-')[0]}",
            split=None if fold is None else _SPLIT_OF_FOLD[fold],
            view=view,
            kind="bmode",
            labels=_labels(cells, fold, notes),
            add_truth=truth,
        )
    if videos:
        notes[f"videos that {table_name} does not name (left out)"] += len(videos)


def _fold(cell: str, table_name: str) -> int | None:
    if not cell:
        return None
    value = number(cell)
    if value not in _SPLIT_OF_FOLD:
        raise EchofmError(f"{table_name}: column Split holds something other than a fold from 0 to 9; correct it")
    return int(value)


def _labels(cells: dict[str, str], fold: int | None, notes: Notes) -> dict[str, Label]:
    named = {"ef_percent": "EF", "age_years": "Age", "weight_kg": "Weight", "height_cm": "Height"}
    labels = numbers({name: cells[column] for name, column in named.items()}, notes)
    if fold is not None:
        labels["fold"] = fold
    letter = sex(cells["Sex"])
    return labels if letter is None else {**labels, "sex": letter}


def _traces(path: Path, notes: Notes) -> dict[str, Polygons]:
    """Outlines by video: the rows of a frame are the polygon's points. Some Frame cells say "No Systolic"."""
    if not path.is_file():
        return {}
    table = numeric(read_table(path, columns=("FileName", "X", "Y", "Frame")), ("X", "Y", "Frame"), notes, path.name)
    traces: dict[str, dict[int, np.ndarray]] = {}
    for name, frame, polygon in outlines(table, video="FileName", frame="Frame", points=("X", "Y")):
        traces.setdefault(name.removesuffix(".avi"), {})[frame] = polygon
    return dict(traces)


PEDIATRIC = Adapter(
    name="echonet-pediatric",
    title="EchoNet-Pediatric",
    recognises=_is_pediatric,
    rows=_rows,
    patient_rule="the first part of the file's name",
)
