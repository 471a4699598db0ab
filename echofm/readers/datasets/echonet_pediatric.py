"""EchoNet-Pediatric (Reddy et al., JASE 2023): A4C/ and PSAX/, each with FileList.csv, VolumeTracings.csv, Videos/.

Files are named patient-accession-instance.avi; Split is a fold from 0 to 9, or, as a public script rewrites the list,
TRAIN, VAL or TEST beside a column Fold. https://echonet.github.io/pediatric/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from echofm.clip import Label
from echofm.readers.datasets.echonet_dynamic import TABLE, Tracings, has_videos, listed_videos
from echofm.readers.datasets.folder import Folder, Notes
from echofm.readers.datasets.labels import number, numbers, sex, with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.datasets.truth import phantom_truth
from echofm.readers.source import Row

_VIEWS = ("A4C", "PSAX")
_COLUMNS = ("FileName", "EF", "Split")
_OPTIONAL = ("Fold", "Sex", "Age", "Weight", "Height")
# Ten folds and three splits: the last fold is for testing, the one before it for validation.
_SPLIT_OF_FOLD = {str(fold): "train" for fold in range(8)} | {"8": "val", "9": "test"}


def _is_view(folder: Folder) -> bool:
    return folder.has(TABLE, "FileName", "EF", "Split", "Weight") and has_videos(folder)


def _views(root: Folder) -> list[tuple[str, Folder]]:
    found = [(view, root.folder(view)) for view in _VIEWS]
    return [(view, Folder(path)) for view, path in found if path is not None]


def recognises(root: Folder) -> bool:
    return _is_view(root) or any(_is_view(folder) for _, folder in _views(root))


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    folder = Folder(root)
    if folder.table(TABLE) is not None:
        # One view's folder was given; its own name says which view.
        view = root.name.upper()
        yield from _view_rows(folder, root.parent, view if view in _VIEWS else None, notes)
        return
    views = _views(folder)
    for view, inner in views:
        yield from _view_rows(inner, root, view, notes)
    for view in set(_VIEWS) - {view for view, _ in views}:
        notes[f"views not here: {view}"] += 1


def _view_rows(folder: Folder, root: Path, view: str | None, notes: Notes) -> Iterator[Row]:
    name = f"{view}/{TABLE}" if view else TABLE
    table = read_table(folder.needed(TABLE), columns=_COLUMNS, optional=_OPTIONAL)
    table = with_splits(table, "Split", notes, name=name, further=_SPLIT_OF_FOLD)
    traces = Tracings(folder, notes, points=("X", "Y"))
    for cells, stem, path in listed_videos(table, folder, notes, name=name):
        yield Row(
            path=path,
            patient=f"echonet-pediatric/{stem.split('-')[0]}",
            split=cells["split"] or None,
            view=view,
            kind="bmode",
            labels=_labels(cells, notes),
            add_truth=phantom_truth(folder.path, stem) or phantom_truth(root, stem) or traces.of(stem),
        )


def _labels(cells: Mapping[str, str], notes: Notes) -> dict[str, Label]:
    named = {"ef_percent": "EF", "age_years": "Age", "weight_kg": "Weight", "height_cm": "Height"}
    labels = numbers({name: cells[column] for name, column in named.items()}, notes)
    folds = (number(cells[column]) for column in ("Fold", "Split"))
    fold = next((fold for fold in folds if fold in range(10)), None)
    if fold is not None:
        labels["fold"] = int(fold)
    letter = sex(cells["Sex"])
    return labels if letter is None else {**labels, "sex": letter}
