"""TMED-2 (Huang et al., 2022): stills with view and aortic-stenosis labels.

approved_users_only/{view_and_diagnosis_labeled_set,view_labeled_set}/{labeled,unlabeled}/*.png, labels_per_image.csv,
and DEV479/TMED2_fold0_labeledpart.csv with the splits. A name `1009s2_12.png` is patient 1009, study s2.
https://tmed.cs.tufts.edu/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.labels import given_split, word
from echofm.readers.datasets.table import header, read_table
from echofm.readers.datasets.walk import Notes, media_files
from echofm.readers.source import Row

_TABLE = "labels_per_image.csv"
_FOLD = "TMED2_fold0_labeledpart.csv"
_NAME = re.compile(r"(\d+)(s\d+)_\d+\.png")
# The set's own word for "a four-chamber, two-chamber or any other view" names no view.
_VIEWS = {"plax": "PLAX", "psax": "PSAX", "a4c": "A4C", "a2c": "A2C"}
_NO_SPLIT = ("", "not_used", "not used", "unlabeled", "none", "nan")


def _home(root: Path) -> Path:
    return root / "approved_users_only" if (root / "approved_users_only").is_dir() else root


def _is_tmed2(root: Path) -> bool:
    return "query_key" in header(_home(root) / _TABLE)


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    home = _home(root)
    table = read_table(home / _TABLE, columns=("query_key", "view_label", "diagnosis_label"))
    known = {cells["query_key"]: cells for cells in table.to_dict("records")}
    splits = _splits(home, root)
    for path in media_files(home, notes):
        match = _NAME.fullmatch(path.name)
        if match is None:
            notes["images whose name is no query_key (left out)"] += 1
            continue
        cells = known.pop(path.name, None)
        diagnosis = word(cells["diagnosis_label"]) if cells else None
        yield Row(
            path=path,
            patient=f"tmed-2/{match[1]}",
            study=match[2],
            split=splits.get(path.name),
            view=_VIEWS.get(cells["view_label"].casefold()) if cells else None,
            kind="still",
            labels={"aortic_stenosis": diagnosis} if diagnosis and diagnosis.endswith("_as") else {},
        )
    if known:
        notes[f"images in {_TABLE} that are not in the folder"] += len(known)


def _splits(home: Path, root: Path) -> dict[str, str]:
    """The fold's split by image. Patients are disjoint in it for the diagnosis, which therefore comes first."""
    places = (home / "DEV479" / _FOLD, root / "DEV479" / _FOLD, root.parent / "DEV479" / _FOLD)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}
    columns = ("diagnosis_classifier_split", "view_classifier_split")
    table = read_table(path, columns=("query_key", *columns))
    found: dict[str, str] = {}
    for key, *cells in table[["query_key", *columns]].itertuples(index=False, name=None):
        used = ((column, cell) for column, cell in zip(columns, cells) if cell.casefold() not in _NO_SPLIT)
        split = next((given_split(cell, table=_FOLD, column=column) for column, cell in used), None)
        if split is not None:
            found[key] = split
    return found


TMED2 = Adapter(
    name="tmed-2",
    title="TMED-2",
    recognises=_is_tmed2,
    rows=_rows,
    patient_rule="the number before `s` in the image's name",
)
