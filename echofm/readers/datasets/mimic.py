"""MIMIC-IV-ECHO (Gow et al., PhysioNet 2023): DICOM of a hospital's studies; cines, stills and Doppler mixed.

echo-record-list.csv names the files, echo-study-list.csv joins studies to structured-measurement.csv.gz, a long table
of report values. Most people hold a part of the files. https://physionet.org/content/mimic-iv-echo/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from echofm.clip import Label
from echofm.readers.datasets.folder import Folder, Notes, is_regular
from echofm.readers.datasets.labels import number, sex
from echofm.readers.datasets.table import read_chunks, read_table
from echofm.readers.source import Row

_RECORDS = "echo-record-list.csv"
_STUDIES = "echo-study-list.csv"
_MEASUREMENTS = ("structured-measurement.csv", "structured_measurement.csv")
_COLUMNS = ("subject_id", "study_id", "dicom_filepath")
# Mirrors drop the first folder.
_PATH = re.compile(r"(files/)?(p\d+/p\d+/s\d+/\d+_\d+\.dcm)")

# Of one report: the table's name of a measurement -> (its value, its unit lower-case).
Report = dict[str, tuple[str, str]]
# The table's name of a measurement -> our name and the unit that the table must give for it.
_NUMBERS = {
    "septal_thickness": ("ivsd_cm", ("cm",)),
    "inf_lat_thickness": ("lvpwd_cm", ("cm",)),
    "lvedd": ("lvidd_cm", ("cm",)),
    "lvesd": ("lvids_cm", ("cm",)),
    "la_vol": ("la_volume_ml", ("ml",)),
    "lvot_diam": ("lvot_diameter_cm", ("cm",)),
    "av_pk_vel": ("av_peak_velocity_m_s", ("m/s", "m/sec")),
    "av_mean_grad": ("av_mean_gradient_mmhg", ("mmhg", "mm hg")),
    "av_area_continuity": ("av_area_cm2", ("cm2", "cm^2", "cm²")),
    "tr_mmhg": ("tr_gradient_mmhg", ("mmhg", "mm hg")),
    "resting_hr": ("heart_rate_bpm", ("bpm", "/min")),
    "height_cm": ("height_cm", ("cm", "")),
    "weight_kg": ("weight_kg", ("kg", "")),
}
# The ejection fraction by how it was found, the best first; `lvef` is the lower end of a reported range.
_MEASURED_EF = {"biplane_lvef": "biplane", "lvef_3d": "3d"}
_LOW_EF, _HIGH_EF = "lvef", "lvef_upper"
_GRADES = {
    "aortic_stenosis": "aortic_stenosis",
    "aortic_regurg": "aortic_regurgitation",
    "mitral_regurg": "mitral_regurgitation",
    "tricuspid_regurg": "tricuspid_regurgitation",
    "rv_function": "rv_dysfunction",
    "phtn_severity": "pulmonary_hypertension_grade",
}
NAMES = frozenset([*_NUMBERS, *_MEASURED_EF, _LOW_EF, _HIGH_EF, *_GRADES, "tapse", "gender"])
_LEVELS = {
    "none": ("none", "no", "normal", "nl", "absent"),
    "trace": ("trace", "trivial", "physiologic", "minimal", "min"),
    "mild": ("mild", "mildly"),
    "moderate": ("mod", "moderate", "moderately"),
    "severe": ("severe", "severely", "sev", "critical", "torrential", "massive"),
}
_LEVEL_OF = {word: level for level, words in _LEVELS.items() for word in words}
_BETWEEN: dict[tuple[str, ...], str] = {
    ("mild", "moderate"): "mild_moderate",
    ("moderate", "severe"): "moderate_severe",
}
# TMED-2's words for the same grades.
_STENOSIS = {
    "none": "no_as",
    "mild": "mild_as",
    "mild_moderate": "mildtomod_as",
    "moderate": "moderate_as",
    "moderate_severe": "modtosevere_as",
    "severe": "severe_as",
}
# An upper end of 100 % stands for "more than the lower end".
_OPEN_END = 100
# Centimetres and millimetres stand in one column; no excursion is between.
_TAPSE_CM, _TAPSE_MM = (0.3, 4.5), (5, 45)


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


def labels_of(report: Report, notes: Notes) -> dict[str, Label]:
    """The labels of one report; what is in another unit, no number or no known grade is left out and counted."""
    labels: dict[str, Label] = {}
    for measurement, (name, units) in _NUMBERS.items():
        value = _number(report, measurement, name, units, notes)
        if value is not None:
            labels[name] = value
    labels |= _ejection_fraction(report, notes) | _tapse(report, notes)
    for measurement, name in _GRADES.items():
        cell, _ = report.get(measurement, ("", ""))
        level = grade(cell)
        level = _STENOSIS.get(level or "") if name == "aortic_stenosis" else level
        if level is not None:
            labels[name] = level
        elif cell:
            notes[f"cells of {name} that hold no known grade"] += 1
    letter = sex(report.get("gender", ("", ""))[0])
    return labels if letter is None else {**labels, "sex": letter}


def grade(cell: str) -> str | None:
    """ "none", "trace", "mild", "mild_moderate", "moderate", "moderate_severe" or "severe", else None.

    Read off the words before a comma or bracket: "Mod (TR 37-60mmHg)", "None, incr vel high output".
    """
    words = re.findall(r"[a-z]+", re.split(r"[,(;]", cell.casefold())[0])
    levels = tuple(dict.fromkeys(_LEVEL_OF[word] for word in words if word in _LEVEL_OF))
    return levels[0] if len(levels) == 1 else _BETWEEN.get(levels)


def _number(report: Report, measurement: str, name: str, units: Sequence[str], notes: Notes) -> float | None:
    cell, unit = report.get(measurement, ("", ""))
    if not cell:
        return None
    if unit not in units:
        notes[f"values of {name} in another unit (left out)"] += 1
        return None
    value = number(cell)
    if value is None:
        notes[f"cells of {name} that hold no number"] += 1
    return value


def _ejection_fraction(report: Report, notes: Notes) -> dict[str, Label]:
    """Biplane, else 3-D, else the middle of the reported range, else its one end; `ef_method` says which."""
    found = {
        name: value
        for name in (*_MEASURED_EF, _LOW_EF, _HIGH_EF)
        if (value := _number(report, name, "ef_percent", ("%", "percent"), notes)) is not None
    }
    for name, method in _MEASURED_EF.items():
        if name in found:
            return {"ef_percent": found[name], "ef_method": method}
    low, high = found.get(_LOW_EF), found.get(_HIGH_EF)
    if low is None:
        return {}
    if high is None:
        return {"ef_percent": low, "ef_method": "one_value"}
    if high >= _OPEN_END:
        notes["ejection fractions reported as more than a value (left out)"] += 1
        return {}
    return {"ef_percent": (low + high) / 2, "ef_method": "middle_of_range"}


def _tapse(report: Report, notes: Notes) -> dict[str, Label]:
    value = _number(report, "tapse", "tapse_mm", ("cm", "mm"), notes)
    if value is None:
        return {}
    if _TAPSE_CM[0] <= value <= _TAPSE_CM[1]:
        return {"tapse_mm": round(10 * value, 3)}
    if _TAPSE_MM[0] <= value <= _TAPSE_MM[1]:
        return {"tapse_mm": value}
    notes["values of tapse_mm that are neither millimetres nor centimetres (left out)"] += 1
    return {}
