"""Any folder of echo files, with or without a table about them: manifest.csv, one line per file.

Columns: path (relative to the manifest), and, each optional, patient, study, split, view, kind, frame_rate_hz (of files
that do not tell theirs), and labels (`echofm.readers.datasets.columns`). Other columns are not read, and named.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from echofm.clip import Label
from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Folder, Notes, is_regular, media_files
from echofm.readers.datasets.labels import given_split, numbers, word
from echofm.readers.datasets.own_table import KEYS, OwnTable
from echofm.readers.datasets.truth import phantom_truth
from echofm.readers.datasets.views import view_of
from echofm.readers.frames import frame_files
from echofm.readers.kinds import KINDS
from echofm.readers.limits import PLAUSIBLE_RATE_HZ
from echofm.readers.patients import Doubts, Namesakes, PatientFrom, patient_of
from echofm.readers.source import Row
from echofm.readers.suffixes import stem_of

_TABLES = (".csv", ".csv.gz", ".tsv", ".xlsx", ".xls")
_FACTS = ("split", "view", "kind", "frame_rate_hz")
# A name of these words alone is shown; any other may be a patient's.
_PLAIN = (
    *("all", "a", "c", "ch", "calc", "case", "cases", "class", "classes", "clinical", "cohort", "data", "dataset"),
    *("demographics", "diagnosis", "echo", "echonet", "ef", "file", "filelist", "filenames", "files", "frame"),
    *("frames", "image", "images", "index", "info", "label", "labels", "list", "manifest", "master", "measurement"),
    *("measurements", "measurementslist", "meta", "metadata", "overview", "patient", "patients", "per", "query"),
    *("record", "records", "report", "reports", "results", "split", "splits", "structured", "studies", "study"),
    *("subject", "subjects", "table", "test", "tracings", "train", "val", "video", "videos", "view", "views"),
    *("volume", "volumetracings"),
)
_LISTED = 12


def rows(
    root: Path, notes: Notes, *, patient_from: PatientFrom | None = None, manifest: Path | None = None
) -> Iterator[Row]:
    """Every media file below a folder; with a manifest the files that it names, in its order by path.

    patient_from: who a file belongs to, where no manifest says so.
    Raises EchofmError on a manifest without a path column or whose paths leave the folder.
    """
    namesakes, doubts = Namesakes(patient_from, notes), Doubts()
    found = _found(root, notes) if manifest is None else _listed_rows(root, notes, manifest)
    for row in found:
        patient = row.patient or patient_of(row.path, root=root, rule=patient_from or "dicom")
        row = replace(row, patient=patient, patient_from=patient_from)
        namesakes.count(row.path, patient)
        doubts.list_row(row)
        yield row
    notes.doubt = doubts.reason


def _found(root: Path, notes: Notes) -> Iterator[Row]:
    notes.update(unread_tables(root))
    for path in media_files(root, notes, frames_as_clips=True):
        yield Row(path=path, patient="", add_truth=phantom_truth(root, stem_of(path)))


def _listed_rows(root: Path, notes: Notes, manifest: Path) -> Iterator[Row]:
    own = OwnTable.read(manifest, own={**KEYS, **dict.fromkeys(_FACTS, ())})
    notes.update(own.notes)
    if own.column("path") is None:
        raise EchofmError(f"{manifest.name} has no column path, with the files' paths below it")
    labels = own.labels_by_row
    table = own.cells.sort_values("path", kind="stable")
    seen: dict[Path, tuple[int, dict[str, str], Mapping[str, Label]]] = {}
    for row, record in zip(table.index + 1, table.to_dict("records")):
        cells = {str(name): str(cell) for name, cell in record.items()}
        path = _listed(root, cells.pop("path"), manifest.name)
        first, *same = seen.setdefault(path, (row, cells, labels.get(row - 1, {})))
        if same != [cells, labels.get(row - 1, {})]:
            rows = " and ".join(str(each) for each in sorted((first, row)))
            raise EchofmError(
                f"{manifest.name}: rows {rows} below the header name one file and say different things of it; "
                "keep one row"
            )
        if first != row:
            notes[f"lines of {manifest.name} that name a file again"] += 1
        elif not path.exists():
            notes[f"files in {manifest.name} that are not in the folder"] += 1
        elif frame_files(path) or is_regular(path, notes):
            yield Row(
                path=path,
                patient=cells["patient"],
                study=cells["study"] or None,
                split=given_split(cells["split"], table=manifest.name, row=row - 1),
                view=view_word(cells["view"], notes),
                kind=cells["kind"] if cells["kind"] in KINDS else None,
                frame_rate_hz=_rate(cells["frame_rate_hz"], notes),
                labels=labels.get(row - 1, {}),
                add_truth=phantom_truth(root, stem_of(path)),
            )


def _listed(root: Path, name: str, manifest: str) -> Path:
    """The file that a manifest means; a path written with Windows' backslashes, too."""
    path = _inside(root, name, manifest)
    return _inside(root, name.replace("\\", "/"), manifest) if "\\" in name and not path.exists() else path


def _inside(root: Path, name: str, manifest: str) -> Path:
    path = Path(os.path.normpath(root / name))
    if not name or not path.is_relative_to(root) or "\0" in name:
        raise EchofmError(f"{manifest}: a cell of column path is empty or leads out of the folder; keep paths below it")
    return path


def view_word(cell: str, notes: Notes) -> str | None:
    """A view under its usual name; another short word stays as it is, anything else is counted and left out."""
    if not cell:
        return None
    known = view_of(cell)
    if known is not None:
        return known
    if word(cell) is None:
        notes["cells of view that are no word"] += 1
    return word(cell)


def _rate(cell: str, notes: Notes) -> float | None:
    rate = numbers({"frame_rate_hz": cell}, notes).get("frame_rate_hz")
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    if rate is None or low_hz <= float(rate) <= high_hz:
        return None if rate is None else float(rate)
    notes[f"cells of frame_rate_hz that are not {low_hz:g} to {high_hz:g}"] += 1
    return None


def unread_tables(root: Path) -> Counter[str]:
    """Tables in a folder and in those right below it, for notes."""
    folder = Folder(root)
    found: Counter[str] = Counter()
    for path in (path for each in (folder, *map(Folder, folder.folders[:200])) for path in each.files):
        if path.name.casefold().endswith(_TABLES):
            found[
                f"tables beside the files, which are not read: {_shown(path)} (manifest.csv is: docs/datasets.md)"
            ] += 1
    return Counter(dict(sorted(found.items())[:_LISTED]))


def _shown(path: Path) -> str:
    stem, _, suffixes = path.name.partition(".")
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", stem).casefold())
    if words and all(word in _PLAIN for word in words) and len(re.findall(r"\d", stem)) <= 2:
        return path.name
    return f"one of another name (.{suffixes.casefold()})"
