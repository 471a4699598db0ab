"""MIMIC-IV-ECHO (Gow et al., PhysioNet 2023): DICOM of a hospital's studies; cines, stills and Doppler mixed.

echo-record-list.csv names the files, echo-study-list.csv joins studies to structured-measurement.csv.gz, a long table
of report values. Most people hold a part of the files. https://physionet.org/content/mimic-iv-echo/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from pathlib import Path

from echofm.clip import Label
from echofm.readers.datasets.folder import Folder
from echofm.readers.datasets.mimic_values import NAMES, Report, labels_of
from echofm.readers.datasets.table import read_chunks, read_table
from echofm.readers.datasets.walk import Notes, is_regular
from echofm.readers.source import Row

_RECORDS = "echo-record-list.csv"
_STUDIES = "echo-study-list.csv"
_MEASUREMENTS = ("structured-measurement.csv", "structured_measurement.csv")
_COLUMNS = ("subject_id", "study_id", "dicom_filepath")
# Mirrors drop the first folder.
_PATH = re.compile(r"(files/)?(p\d+/p\d+/s\d+/\d+_\d+\.dcm)")


def recognises(folder: Folder) -> bool:
    return folder.has(_RECORDS, *_COLUMNS)


def rows(root: Path, notes: Notes) -> Iterator[Row]:
    folder = Folder(root)
    table = read_table(folder.needed(_RECORDS), columns=_COLUMNS)
    labels = _labels_by_study(folder, notes)
    homes = [home for home in (folder.folder("files"), root) if home is not None]
    for cells in table.sort_values("dicom_filepath").to_dict("records"):
        match = _PATH.fullmatch(cells["dicom_filepath"].replace("\\", "/"))
        if match is None:
            notes[f"lines of {_RECORDS} whose path is not as the set writes them"] += 1
            continue
        path = next((path for home in homes if (path := home / match[2]).exists()), None)
        if path is None:
            notes[f"files in {_RECORDS} that were not downloaded"] += 1
        elif is_regular(path, notes):
            yield Row(
                path=path,
                patient=f"mimic-iv-echo/{cells['subject_id']}",
                study=cells["study_id"],
                labels=labels.get(cells["study_id"], {}),
            )


def _labels_by_study(folder: Folder, notes: Notes) -> dict[str, dict[str, Label]]:
    """Report values of each study; none, and counted, where a table or what joins the two is missing."""
    measured, studies = folder.table(*_MEASUREMENTS), folder.table(_STUDIES)
    if measured is None or studies is None:
        notes[f"tables not here: {_STUDIES} or structured-measurement (no labels)"] += 1
        return {}
    table = read_table(studies, columns=("study_id",), optional=("measurement_id",))
    study_of: dict[str, list[str]] = {}
    for study, measurement in table[["study_id", "measurement_id"]].itertuples(index=False, name=None):
        # The identifiers are integers; a column with gaps is written as `123.0`.
        study_of.setdefault(measurement.removesuffix(".0"), []).append(study)
    unjoined = len(study_of.pop("", ()))
    if unjoined:
        notes[f"studies of {_STUDIES} without a measurement_id (no labels)"] += unjoined
    labels = {key: labels_of(report, notes) for key, report in _reports(measured, study_of.keys()).items()}
    return {study: labels[key] for key, several in study_of.items() if key in labels for study in several}


def _reports(path: Path, wanted: Set[str]) -> dict[str, Report]:
    """Of each wanted measurement_id its report."""
    reports: dict[str, Report] = {}
    columns = ("measurement_id", "measurement", "result", "unit")
    if not wanted:
        return reports
    for chunk in read_chunks(path, columns=columns):
        chunk = chunk[chunk["measurement"].str.casefold().isin(NAMES)]
        for key, measurement, result, unit in chunk[list(columns)].itertuples(index=False, name=None):
            if (key := key.removesuffix(".0")) in wanted:
                reports.setdefault(key, {})[measurement.casefold()] = result, unit.casefold()
    return reports
