"""TMED-2 (Huang et al., 2022): stills with view and aortic-stenosis labels.

approved_users_only/{view_and_diagnosis_labeled_set,view_labeled_set}/{labeled,unlabeled}/*.png, labels_per_image.csv,
and DEV479/TMED2_fold0_labeledpart.csv with the splits. A name `1009s2_12.png` is patient 1009, study s2; names repeat
between the folders. https://tmed.cs.tufts.edu/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from echofm.readers.datasets.folder import TABLES, Folder, Notes, media_files
from echofm.readers.datasets.labels import SPLIT_WORDS, word
from echofm.readers.datasets.table import read_table, shown
from echofm.readers.source import Row

_TABLE = "labels_per_image.csv"
_FOLD = "TMED2_fold0_labeledpart.csv"
_NAME = re.compile(r"(\d+)(s\d+)_\d+\.png")
# The set's own word for "a four-chamber, two-chamber or any other view" names no view.
_VIEWS = {"plax": "PLAX", "psax": "PSAX", "a4c": "A4C", "a2c": "A2C"}
# (folder of an image as the table writes it, "" where it does not; name).
Key = tuple[str, str]


def _home(root: Folder) -> Folder:
    return Folder(root.folder("approved_users_only") or root.path)


def recognises(root: Folder) -> bool:
    return _home(root).has(_TABLE, "query_key", "view_label")


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    home = _home(Folder(root))
    table = read_table(
        home.needed(_TABLE), columns=("query_key", "view_label", "diagnosis_label"), optional=("SourceFolder",)
    )
    known = {_key(cells): cells for cells in table.to_dict("records")}
    splits = _splits(home, Folder(root), notes)
    for path in media_files(home.path, notes, tables=TABLES):
        match = _NAME.fullmatch(path.name)
        if match is None:
            notes["images whose name is no query_key (left out)"] += 1
            continue
        keys = _keys(path, home.path)
        cells = next((known.pop(key) for key in keys if key in known), None)
        diagnosis = word(cells["diagnosis_label"]) if cells else None
        yield Row(
            path=path,
            patient=f"tmed-2/{match[1]}",
            study=match[2],
            split=next((splits[key] for key in keys if key in splits), None),
            view=_VIEWS.get(cells["view_label"].casefold()) if cells else None,
            kind="still",
            labels={"aortic_stenosis": diagnosis} if diagnosis and diagnosis.endswith("_as") else {},
        )
    if known:
        notes[f"images in {_TABLE} that are not in the folder"] += len(known)


def _key(cells: dict[str, str]) -> Key:
    return cells["SourceFolder"].replace("\\", "/").strip("/").casefold(), cells["query_key"]


def _keys(path: Path, home: Path) -> list[Key]:
    """How a table may name an image: in its folder, in the one above (older tables), in none."""
    inside = path.parent.relative_to(home)
    return [(str(folder.as_posix()).casefold(), path.name) for folder in (inside, inside.parent)] + [("", path.name)]


def _splits(home: Folder, root: Folder, notes: Notes) -> dict[Key, str]:
    """The fold's split by image. Patients are disjoint in it for the diagnosis, which therefore comes first.

    Its columns hold further words ("unlabeled", ...) for images that are in no split.
    """
    beside = (home, root, Folder(root.path.parent))
    homes = [Folder(path) for folder in beside if (path := folder.folder("DEV479")) is not None]
    fold = next((table for each in homes if (table := each.table(_FOLD)) is not None), None)
    if fold is None:
        return {}
    columns = ("diagnosis_classifier_split", "view_classifier_split")
    table = read_table(fold, columns=("query_key", *columns), optional=("SourceFolder",))
    found: dict[Key, str] = {}
    for cells in table.to_dict("records"):
        split = next((split for column in columns if (split := SPLIT_WORDS.get(cells[column].casefold()))), None)
        if split is not None:
            found[_key(cells)] = split
    for column in columns:
        _note_other_words(table[column], notes)
    return found


def _note_other_words(cells: pd.Series, notes: Notes) -> None:
    other = cells[~cells.str.casefold().isin(SPLIT_WORDS.keys())]
    for cell, count in other.value_counts().head(5).items():
        notes[f"images of {_FOLD} in no split, as {cells.name} says {shown(str(cell))}"] += int(count)
