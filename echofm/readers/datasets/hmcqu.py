"""HMC-QU (Degerli et al., 2021): apical two- and four-chamber cines, which wall segments are infarcted.

HMC-QU/{A2C,A4C}/ES0001 _4CH_1.avi beside A2C.xlsx and A4C.xlsx: ECHO (the file's name) and SEG1, SEG2, ... as MI or
non-MI. The masks (LV Ground-truth Segmentation Masks/*.mat) are 224 x 224, not the videos' size, and are not read.
https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from echofm.errors import EchofmError
from echofm.readers.datasets.folder import TABLES, Folder, Notes, media_files
from echofm.readers.source import Row
from echofm.readers.suffixes import stem_of

_NAME = re.compile(r"(ES\d+)\b.*?(?:([24])CH|CH([24])).*\.(avi|mp4)", re.IGNORECASE)
_TABLES = ("A2C", "A4C", "HMC_QU", "HMC-QU")
_INFARCTED = {"mi": True, "1": True, "yes": True, "non-mi": False, "nonmi": False, "non mi": False, "0": False}
_MAX_MB, _MAX_ROWS = 16, 100_000


def _match(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name.replace("_", " _ "))


def recognises(root: Folder) -> bool:
    """Its videos lie in the folder, in A2C/ and A4C/, or in those of a folder inside."""
    folders = [root, *map(Folder, root.folders[:8])]
    folders += [Folder(path) for folder in folders[1:] for path in folder.folders[:8]]
    return any(_match(path) for folder in folders for path in folder.files[:3])


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    labels = _labels(Folder(root), notes)
    for path in media_files(root, notes, tables=TABLES):
        match = _match(path)
        if match is None:
            notes["files whose name is none of the set's (left out)"] += 1
            continue
        infarcted = labels.pop(_key(stem_of(path)), None)
        yield Row(
            path=path,
            patient=f"hmc-qu/{match[1].upper()}",
            view=f"A{match[2] or match[3]}C",
            kind="bmode",
            labels={} if infarcted is None else {"myocardial_infarction": "yes" if infarcted else "no"},
        )
    if labels:
        notes["videos in the tables that are not in the folder"] += len(labels)


def _key(name: str) -> str:
    return re.sub(r"\s", "", name).casefold()


def _labels(root: Folder, notes: Notes) -> dict[str, bool]:
    """Of each video whether any segment is infarcted, by its name; a cell that says neither leaves it unknown."""
    found: dict[str, bool] = {}
    homes = (root, Folder(root.path.parent), Folder(root.path.parent.parent))
    for stem in _TABLES:
        read = next((read for home in homes if (read := _read_any(home, stem)) is not None), None)
        if read is None:
            continue
        name, table = read
        segments = [column for column in table.columns if column.casefold().startswith("seg")]
        videos = next((column for column in table.columns if column.casefold() == "echo"), None)
        if videos is None or not segments:
            notes[f"tables without the columns ECHO and SEG1, SEG2, ... ({name}: no labels)"] += 1
            continue
        for video, *cells in table[[videos, *segments]].itertuples(index=False, name=None):
            known = {_INFARCTED.get(cell.casefold()) for cell in cells if cell}
            if True in known or known == {False}:
                found[_key(video.removesuffix(".avi"))] = True in known
            elif video:
                notes[f"videos of {name} with a segment that is neither MI nor non-MI"] += 1
    if not found:
        notes["tables not here: A2C.xlsx, A4C.xlsx (no labels)"] += 1
    return found


def _read_any(folder: Folder, stem: str) -> tuple[str, pd.DataFrame] | None:
    """(name, first sheet) of `stem`.csv or `stem`.xlsx, all columns, cells as text; None where there is neither.

    Raises EchofmError where it is no such table, or openpyxl, which reads workbooks, is not installed.
    """
    path = folder.table(f"{stem}.csv") or folder.table(f"{stem}.xlsx")
    if path is None:
        return None
    if path.stat().st_size > _MAX_MB * 2**20:
        raise EchofmError(f"{path.name} is larger than {_MAX_MB} MB, which no table of this set is")
    options = {"dtype": object, "keep_default_na": False, "nrows": _MAX_ROWS}
    try:
        table = pd.read_excel(path, **options) if path.suffix.lower() == ".xlsx" else pd.read_csv(path, **options)
    except ImportError:
        raise EchofmError(
            f"{path.name} is an Excel workbook: install openpyxl, or save it as {stem}.csv beside it"
        ) from None
    except Exception:
        # Libraries raise anything over a damaged workbook, and their texts quote cells.
        raise EchofmError(f"{path.name} is no readable table; download it again") from None
    table.columns = [str(name).strip() for name in table.columns]
    return path.name, table.map(lambda cell: str(cell).strip())
