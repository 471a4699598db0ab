"""Whose a file of a plain folder is, where no manifest says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from echofm.errors import EchofmError
from echofm.ids import file_id
from echofm.readers.suffixes import DICOM, is_media, media_suffix, stem_of

PatientFrom = Literal["dicom", "parent", "top", "stem"]

RULE_TEXTS: dict[PatientFrom, str] = {
    "dicom": "the DICOM patient tag, else the file's name",
    "parent": "the folder that a file lies in",
    "top": "the folder below the source that a file lies in, at any depth",
    "stem": "the file's name",
}


def patient_of(path: Path, *, root: Path, rule: PatientFrom) -> str:
    """The patient's name in the source; "": the reader takes the DICOM tag, else the file's stem.

    "top" is for PATIENT/STUDY/SERIES/file. Raises EchofmError where a file lies in no folder below `root`.
    """
    if rule == "parent":
        return path.parent.name
    if rule == "stem":
        return stem_of(path)
    if rule == "dicom":
        return ""
    below = path.relative_to(root).parts
    if len(below) < 2:
        raise EchofmError(
            f"--patient-from top: {file_id(path)} lies right in the source, in no patient's folder; move it into one, "
            "or take another rule"
        )
    return below[0]


def checked_rule(name: str | None) -> PatientFrom:
    """The rule of that name, "dicom" by default. Raises EchofmError where there is none."""
    for rule in get_args(PatientFrom):
        if rule == (name or "dicom"):
            return rule
    raise EchofmError(f"patient-from is {name!r}; choose one of {', '.join(RULE_TEXTS)}")


NAMESAKES = (
    "count as the patient of a file of the same name in another folder (--patient-from parent takes the folder's name, "
    "top that of the folder below the source, a manifest.csv any)"
)


def may_have_tag(path: Path) -> bool:
    """Whether a file's name leaves it open that a DICOM tag tells its patient."""
    return media_suffix(path) in DICOM or not is_media(path)


class Namesakes:
    """Counts files that may pass for another patient's because of a name that they share, in a source's notes."""

    def __init__(self, rule: PatientFrom, notes: Counter[str]) -> None:
        self._rule, self._notes = rule, notes
        self._folders: dict[str, Path] = {}

    def count(self, path: Path, patient: str) -> None:
        """Take note of a file and of who it belongs to; of a patient that a manifest names there is no doubt."""
        if self._rule == "parent" and patient == path.parent.name:
            if self._is_elsewhere(patient, path.parent):
                self._notes[
                    "files that count as the patient of a folder of the same name elsewhere (--patient-from top takes "
                    "the folder below the source, a manifest.csv any)"
                ] += 1
            return
        if (not patient and may_have_tag(path)) or patient not in ("", stem_of(path)):
            return
        if self._is_elsewhere(stem_of(path), path.parent):
            self._notes[f"files that {NAMESAKES}"] += 1

    def _is_elsewhere(self, name: str, folder: Path) -> bool:
        return self._folders.setdefault(name, folder) != folder
