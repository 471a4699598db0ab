"""OwnLabels: labels out of a table of one's own, for the files, patients or studies that it names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from echofm.clip import LABEL_NAME, Clip, Label
from echofm.errors import EchofmError
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.readers.suffixes import stem_of

LabelKey = Literal["filename", "MRN", "study", "clip_id"]
_COLUMN: Mapping[LabelKey, str] = {"filename": "path", "MRN": "patient", "study": "study", "clip_id": "clip_id"}
_ONE: Mapping[LabelKey, str] = {"filename": "file", "MRN": "patient", "study": "study", "clip_id": "clip"}
Labels = Mapping[str, Label]
_NONE: Labels = {}
# DICOM's StudyInstanceUID.
_UID = r"\d+(\.\d+){3,}"


@dataclass(frozen=True, kw_only=True)
class _Line:
    row: int
    name: str
    patient: str
    labels: Labels

    @property
    def parts(self) -> tuple[str, ...]:
        return PurePosixPath(self.name.replace("\\", "/").casefold()).parts


def labelled(clip: Clip, labels: Labels) -> Clip:
    """The clip with these labels beside its own; `view` among them is its view."""
    if not labels:
        return clip
    view = labels.get("view", clip.view)
    further = {name: value for name, value in labels.items() if name != "view"}
    return clip.replace(labels={**clip.labels, **further}, view=None if view is None else str(view))


class OwnLabels:
    """Labels by file name, patient or study; holds real names, and is never shown or written.

    by: what the lines name: "filename" (with or without folders and suffix), "MRN" (the patient's name in the source,
        DICOM's PatientID), "study" (DICOM's StudyInstanceUID, or the manifest's) or "clip_id" (`echofm names`).
    choose: header -> the label's name, or one of path, patient, study and clip_id, where the header does not tell.
    Raises EchofmError where the table lacks the column of the key, holds no label, a name is none that a label can
    have, or two lines name one thing and say different things of it.
    """

    def __init__(self, table: str | Path, *, by: LabelKey, choose: Mapping[str, str] | None = None) -> None:
        # Only now: the data sets import much that reading a file does not need.
        from echofm.readers.datasets.own_table import KEYS, OwnTable

        path, self.by = Path(table), by
        for name in (choose or {}).values():
            _require_name(name)
        own = {**KEYS, "clip_id": ("clipid",)}
        read = OwnTable.read(
            path, own=own, chosen={header: _KEY_WORDS.get(name, name) for header, name in (choose or {}).items()}
        )
        column = _COLUMN[by]
        if read.column(column) is None:
            raise EchofmError(f'{path.name} has no column for --key {by}; name it: --map "YOUR COLUMN={by}"')
        if not read.columns:
            why = next(iter(read.notes), "all its columns are keys")
            raise EchofmError(f"{path.name} holds no label: {why}")
        labels = read.labels_by_row
        self.notes, self.names = read.notes, tuple(each.name for each in read.columns)
        self._table = path.name
        self._lines = [
            _Line(row=row, name=name, patient=patient, labels=labels.get(row, _NONE))
            for row, name, patient in zip(read.cells.index, read.cells[column], read.cells["patient"])
            if name
        ]
        self._by_name = self._unique()

    def __repr__(self) -> str:
        return f"OwnLabels({self.by}, {len(self._lines)} lines, {', '.join(self.names)})"

    @property
    def digest(self) -> str:
        """Changes with the labels and with what they belong to."""
        lines = sorted((line.name, line.patient, sorted(line.labels.items())) for line in self._lines)
        return hashlib.sha256(repr((self.by, lines)).encode("utf-8", "surrogateescape")).hexdigest()

    def of(self, path: Path, *, patient: str, study: str | None) -> Labels:
        """The labels of a file, by the names that the source uses; empty where none is known."""
        if self.by == "filename":
            line = self._line_of(path)
            return _NONE if line is None else line.labels
        lines = self._by_name.get({"MRN": patient, "study": study or ""}.get(self.by, ""), [])
        own = [line for line in lines if line.patient in ("", patient)]
        if not own and re.fullmatch(_UID, study or "") and all(line.labels == lines[0].labels for line in lines):
            # It is unique, whatever the table calls its patient; a number like 1 is every patient's first study.
            own = lines
        return own[0].labels if own else _NONE

    def of_clip(self, clip_id: str) -> Labels:
        """The labels of a clip by its hashed id; empty where the table goes by another key, or does not know it."""
        lines = self._by_name.get(clip_id, []) if self.by == "clip_id" else []
        return lines[0].labels if lines else _NONE

    def by_id(self, key: IdKey) -> dict[str, Labels]:
        """The labels by hashed id of patient, study or clip. Raises EchofmError for file names, which no id tells."""
        if self.by == "filename":
            raise EchofmError(
                "--key filename: shards and tables hold no file names; give --labels to `echofm shards` or to the "
                "files, or take --key MRN, study or clip_id (`echofm names` lists the ids)"
            )
        found: dict[str, Labels] = {}
        for line in self._lines:
            if self.by == "clip_id":
                ids = [line.name]
            elif self.by == "MRN":
                ids = [key.patient(line.name)]
            else:
                # By its tag a study is unique; a source numbers each patient's.
                ids = [key.study(owner, line.name) for owner in {"", line.patient, line.name}]
            found |= dict.fromkeys(ids, line.labels)
        return found

    def on_rows(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of a source with the labels that are known before a file is read; counts in `notes` what is left.

        Raises EchofmError where no line names a file, or one names several.
        """
        found = [self.of(row.path, patient=row.patient, study=row.study) for row in rows]
        if self.by == "filename":
            self._require_files([row.path for row in rows])
        elif not any(found) and self._known_before_reading(rows):
            raise EchofmError(f"no line of {self._table} names a {_ONE[self.by]} of the source; check --key")
        return [
            replace(row, labels={**row.labels, **{name: own[name] for name in own if name != "view"}}) if own else row
            for row, own in zip(rows, found)
        ]

    def _known_before_reading(self, rows: Sequence[Row]) -> bool:
        """Whether the source itself tells of every file what the lines name; ids of clips tells none."""
        return self.by != "clip_id" and all(row.patient if self.by == "MRN" else row.study for row in rows)

    def _require_files(self, paths: Sequence[Path]) -> None:
        lines = [self._line_of(path) for path in paths]
        files = Counter(line.row for line in lines if line is not None)
        several = next((row for row, count in files.items() if count > 1), None)
        if several is not None:
            raise EchofmError(
                f"{self._table}, row {several + 1} below the header: {files[several]} files have this name; give it "
                "with its folder, as ward/one.avi"
            )
        if not files:
            raise EchofmError(f"no line of {self._table} names a file of the source; check --key and the names")
        self.notes[f"files without a line in {self._table}"] = lines.count(None)
        self.notes[f"lines of {self._table} without a file"] = len(self._lines) - len(files)
        self.notes += Counter()

    def _line_of(self, path: Path) -> _Line | None:
        """The line whose folders, name and (if it gives one) suffix are the file's, the one that says most."""
        fits = [line for line in self._by_name.get(stem_of(path).casefold(), []) if _fits(line.parts, path)]
        return max(fits, key=lambda line: len(line.parts), default=None)

    def _unique(self) -> dict[str, list[_Line]]:
        """Lines by what they name: a file's stem, else the name itself."""
        seen: dict[tuple[str, ...], _Line] = {}
        for line in self._lines:
            own = line.parts if self.by == "filename" else (line.name, line.patient if self.by == "study" else "")
            first = seen.setdefault(own, line)
            if first.labels != line.labels:
                raise EchofmError(
                    f"{self._table}: rows {first.row + 1} and {line.row + 1} below the header name one {_ONE[self.by]} "
                    f"and say different things of it; keep one row"
                    + ("" if self.by == "filename" else ", or join by filename or study")
                )
        found: dict[str, list[_Line]] = defaultdict(list)
        for line in seen.values():
            found[stem_of(Path(*line.parts)).casefold() if self.by == "filename" else line.name].append(line)
        return dict(found)


_KEY_WORDS: Mapping[str, str] = {str(word): column for word, column in _COLUMN.items()}


def _require_name(name: str) -> None:
    if name not in _KEY_WORDS and not re.fullmatch(LABEL_NAME, name):
        raise EchofmError(f"--map: no label can be called {name!r}; take a-z, digits and _, a letter first: ef_percent")


def _fits(parts: Sequence[str], path: Path) -> bool:
    own = tuple(part.casefold() for part in path.parts[-len(parts) :])
    return own[:-1] == tuple(parts[:-1]) and parts[-1] in (own[-1], stem_of(path).casefold())


def parsed_map(words: Sequence[str]) -> dict[str, str]:
    """`--map "LVEF (%)=ef_percent"`, several. Raises EchofmError where one is not of this form."""
    found = {}
    for each in words:
        header, mark, name = each.rpartition("=")
        if not mark or not header.strip() or not name.strip():
            raise EchofmError(f'--map {each!r}: give COLUMN=NAME, e.g. --map "LVEF (%)=ef_percent"')
        found[header.strip()] = name.strip()
    return found
