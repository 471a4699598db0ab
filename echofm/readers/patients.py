"""Whose a file of a plain folder is, where no manifest says so, and when nobody can know."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from echofm.errors import EchofmError
from echofm.ids import file_id
from echofm.readers.refused import Refused
from echofm.readers.suffixes import DICOM, STILL, is_media, media_suffix, stem_of

if TYPE_CHECKING:
    from echofm.clip import Clip
    from echofm.readers.source import Row

PatientFrom = Literal["dicom", "parent", "top", "stem", "study"]
# How a clip's patient was found: the source names it, the tag, a tag that looks like a placeholder, the study as there
# is no tag, the file's name as there is neither.
PatientBy = Literal["given", "tag", "placeholder", "study", "name"]

RULE_TEXTS: dict[PatientFrom, str] = {
    "dicom": "the DICOM patient tag, else the file's name",
    "parent": "the folder that a file lies in",
    "top": "the folder below the source that a file lies in, at any depth",
    "stem": "the file's name",
    "study": "each DICOM study is a patient",
}


def patient_of(path: Path, *, root: Path, rule: PatientFrom) -> str:
    """The patient's name in the source; "": the reader takes a DICOM tag, else the file's stem.

    "top" is for PATIENT/STUDY/SERIES/file. Raises EchofmError where a file lies in no folder below `root`, or is no
    DICOM and therefore of no study.
    """
    if rule == "parent":
        return path.parent.name
    if rule == "stem":
        return stem_of(path)
    if rule == "study" and not may_have_tag(path):
        raise EchofmError(f"--patient-from study: {file_id(path)} is no DICOM, so nothing tells its study; see parent")
    if rule in ("dicom", "study"):
        return ""
    below = path.relative_to(root).parts
    if len(below) < 2:
        raise EchofmError(
            f"--patient-from top: {file_id(path)} lies right in the source, in no patient's folder; move it into one, "
            "or take another rule"
        )
    return below[0]


def whose(
    path: Path, *, given: str | None, tag: str | None, study: str | None, by_study: bool
) -> tuple[str, PatientBy]:
    """The patient's name of a file as read, and how it is known. Raises Refused where a study is asked for in vain."""
    if given:
        return given, "given"
    if by_study:
        if not study:
            raise Refused("it has no StudyInstanceUID, by which --patient-from study tells patients apart")
        return study, "given"
    if tag:
        return tag, "placeholder" if is_placeholder(tag) else "tag"
    return (study, "study") if study else (stem_of(path), "name")


# What anonymisers and default settings write into every file's PatientID, letters and digits alone.
_PLACEHOLDERS = re.compile(
    r"|(an)?on(ym(ous|i[sz]ed)?)?(id|patient)?|de?identified|deid|no(id|name|ne|t?known)?|unknown|unnamed|null|nan?"
    r"|test(patient)?|patient(id)?|id|pid|mrn|dummy|default|removed|redacted|hidden|blank|empty|123(4(5(6(7(89?)?)?)?)?)?"
)


def is_placeholder(tag: str) -> bool:
    """Whether a PatientID looks like one that says nothing: "Anonymous", "0", "XXXX"."""
    letters = re.sub(r"[^a-z0-9]", "", tag.casefold())
    return _PLACEHOLDERS.fullmatch(letters) is not None or re.fullmatch(r"(.)\1+|[0x]", letters) is not None


def checked_rule(name: str | None) -> PatientFrom | None:
    """The rule of that name, None where none was chosen. Raises EchofmError where there is no such rule."""
    for rule in get_args(PatientFrom):
        if rule == name:
            return rule
    if name is None:
        return None
    raise EchofmError(f"patient-from is {name!r}; choose one of {', '.join(RULE_TEXTS)}")


def may_have_tag(path: Path) -> bool:
    """Whether a file's name leaves it open that a DICOM tag tells its patient."""
    return media_suffix(path) in DICOM or not is_media(path)


_FOLDER_WAYS = (
    "--patient-from parent (the folder that a file lies in), top (the folder below the source) or stem (the file's "
    "name), or a manifest.csv with the columns path and patient"
)
_TAG_WAYS = (
    "--patient-from study (each study is a patient), parent or top (folders), dicom (the tag is right), or a "
    "manifest.csv with the columns path and patient"
)
# One id over so many studies, so large a share of all and so many times what the others have is more likely a constant
# than a person.
_MANY_STUDIES, _LARGE_SHARE, _UNLIKE = 8, 0.2, 5


class Doubts:
    """Gathers, file by file, what makes it doubtful who is who; `reason` is None as long as nothing does.

    A file that goes by its own name, in a tree whose folders group files or repeat names; a placeholder, an empty
    PatientID, one id over many studies or several over one. What the source or the user says is never doubted.
    """

    def __init__(self) -> None:
        self._named: dict[Path, set[str]] = defaultdict(set)
        self._stems: dict[str, Path] = {}
        self._groups = self._repeats = False
        self._studies: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._owners: dict[str, str] = {}
        self._shares_study = False
        self._n_studies = 0
        self._tag_reason: str | None = None

    def list_row(self, row: Row) -> None:
        """Take note of a file before it is read; what may have a tag, and stills beside cines, are left for later."""
        is_later = may_have_tag(row.path) or media_suffix(row.path) in STILL
        if not (row.patient or is_later or _is_given(row)):
            self._name(row.path)

    def read_row(self, row: Row, *, patient_id: str, study_id: str | None, by: PatientBy) -> None:
        """Take note of a file as read."""
        if by == "given" or _is_given(row):
            return
        if by == "name":
            self._name(row.path)
            return
        if by != "study" and study_id:
            self._shares_study |= self._owners.setdefault(study_id, patient_id) != patient_id
        # Without a PatientID all studies could be one patient's, or none two.
        studies = self._studies[(by, "" if by == "study" else patient_id)]
        study = patient_id if by == "study" else study_id or ("" if by == "tag" else str(row.path))
        if study in studies:
            return
        studies.add(study)
        self._n_studies += 1
        if self._tag_reason is None and len(studies) > 1:
            self._tag_reason = self._of_tag(by, len(studies))

    def read_clip(self, row: Row, clip: Clip) -> None:
        """The same of the clip that a file became."""
        self.read_row(row, patient_id=clip.patient_id, study_id=clip.study_id, by=cast(PatientBy, clip.patient_by))

    def _of_tag(self, by: PatientBy, count: int) -> str | None:
        if by == "study":
            return f"PatientID is empty in the files of {count} studies or more"
        if by == "placeholder":
            return f"one PatientID that looks like a placeholder covers {count} studies or more"
        if count < _MANY_STUDIES or count < _LARGE_SHARE * self._n_studies:
            return None
        others = sorted(len(studies) for studies in self._studies.values())[:-1]
        if others and count < _UNLIKE * others[len(others) // 2]:
            return None
        return f"one PatientID covers {count} of the {self._n_studies} studies read so far"

    def _name(self, path: Path) -> None:
        stem, stems = stem_of(path), self._named[path.parent]
        self._groups |= bool(stems - {stem})
        self._repeats |= self._stems.setdefault(stem, path.parent) != path.parent
        stems.add(stem)

    @property
    def reason(self) -> str | None:
        """Why the patients are not known, and the ways out."""
        if self._tag_reason is not None:
            return _unknown(self._tag_reason, _TAG_WAYS)
        # One study over all files is a constant, which says nothing against the tag.
        if self._shares_study and len(self._owners) > 1:
            return _unknown("the files of one study carry several PatientIDs", _TAG_WAYS)
        if len(self._named) > 1 and (self._repeats or self._groups):
            files = sum(map(len, self._named.values()))
            how = "names repeat between them" if self._repeats else "some hold several"
            text = f"{files} files without a patient's id lie in {len(self._named)} folders, and {how}"
            return _unknown(text, _FOLDER_WAYS)
        return None

    def refuse(self) -> None:
        """Raises EchofmError where the patients are not known."""
        if self.reason is not None:
            raise EchofmError(self.reason)


def _is_given(row: Row) -> bool:
    """Whether the user chose a rule or a split, so that nothing is guessed."""
    return row.patient_from is not None or row.split is not None


def _unknown(why: str, ways: str) -> str:
    return f"the patients are not known: {why}; a guess would put some into two splits. Say it by {ways}"


class Namesakes:
    """Counts files that pass for another patient's under the rule chosen, because of a name that they share."""

    def __init__(self, rule: PatientFrom | None, notes: Counter[str]) -> None:
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
        if self._rule not in ("stem", "dicom") or patient not in ("", stem_of(path)):
            return
        if (patient or not may_have_tag(path)) and self._is_elsewhere(stem_of(path), path.parent):
            self._notes[
                "files that count as the patient of a file of the same name in another folder (--patient-from parent "
                "takes the folder's name, top that of the folder below the source, a manifest.csv any)"
            ] += 1

    def _is_elsewhere(self, name: str, folder: Path) -> bool:
        return self._folders.setdefault(name, folder) != folder
