"""segRWMA: regional wall motion, apical views as NIfTI; native and contrast (LVO, MCE) cines of each patient.

wallMotion/patientN-{2D,LVO,MCE}-{A2C,A3C,A4C}_image.nii.gz. Only 2D is read: contrast fills the ventricle white.
Whether a wall moves abnormally is read from a table of CardioBench (segrwma_split.csv) beside the files, where there
is one; the classes of *_label.nii.gz are not documented, so no mask is read.
https://www.kaggle.com/datasets/xiaoweixumedicalai/regional-wall-motion-abnormality-echo
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from echofm.clip import Label
from echofm.readers.datasets.folder import Folder, Notes, is_regular
from echofm.readers.datasets.labels import LEFT_OUT, with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.source import Row

_NAME = re.compile(r"(patient\d+)-(2D|LVO|MCE)-(A[234]C)_image\.nii(\.gz)?", re.IGNORECASE)
_TABLE = "segrwma_split.csv"
_ABNORMAL = {"1": "yes", "0": "no"}


def _home(root: Folder) -> Folder:
    return Folder(root.folder("wallMotion") or root.path)


def recognises(root: Folder) -> bool:
    return any(_NAME.fullmatch(path.name) for path in _home(root).files[:3])


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    home = _home(Folder(root))
    table = _table((home, Folder(root), Folder(root.parent)), notes)
    for path in home.files:
        match = _NAME.fullmatch(path.name)
        if match is None or not is_regular(path, notes):
            continue
        if match[2].upper() != "2D":
            notes["contrast cines, LVO and MCE (left out)"] += 1
            continue
        split, labels = table.get(path.name.casefold(), (None, {}))
        if split != LEFT_OUT:
            view = match[3].upper()
            patient = f"segrwma/{match[1].casefold()}"
            yield Row(path=path, patient=patient, split=split, view=view, kind="bmode", labels=labels)


def _table(homes: tuple[Folder, ...], notes: Notes) -> dict[str, tuple[str | None, dict[str, Label]]]:
    """By file name: split and labels."""
    path = next((path for home in homes if (path := home.table(_TABLE)) is not None), None)
    if path is None:
        notes[f"tables not here: {_TABLE} (no labels)"] += 1
        return {}
    table = read_table(path, columns=("path", "abnormal"), optional=("split",))
    table = with_splits(table, "split", notes, name=_TABLE)
    found: dict[str, tuple[str | None, dict[str, Label]]] = {}
    for cells in table.to_dict("records"):
        word = _ABNORMAL.get(cells["abnormal"].removesuffix(".0"))
        labels: dict[str, Label] = {} if word is None else {"wall_motion_abnormality": word}
        found[Path(cells["path"].replace("\\", "/")).name.casefold()] = cells["split"] or None, labels
    return found
