"""MIMIC-IV-ECHO (Gow et al., PhysioNet 2023): DICOM of a hospital's studies; cines, stills and Doppler mixed.

echo-record-list.csv names the files, echo-study-list.csv joins studies to structured-measurement.csv.gz, a long table
of report values. Most people hold a part of the files. https://physionet.org/content/mimic-iv-echo/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from echofm.clip import Label
from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.labels import number, sex
from echofm.readers.datasets.table import header, read_chunks, read_table
from echofm.readers.datasets.walk import Notes, is_regular
from echofm.readers.source import Row

_RECORDS = "echo-record-list.csv"
_STUDIES = "echo-study-list.csv"
_MEASUREMENTS = ("structured-measurement.csv.gz", "structured-measurement.csv")
_PATH = re.compile(r"files/p\d+/p\d+/s\d+/\d+_\d+\.dcm")

# The table's name of a measurement -> our name and the unit that the table must give for it.
_NAMES = {
    "lvef": ("ef_percent", ("%", "percent")),
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
    "gender": ("sex", ("",)),
}


def _is_mimic(root: Path) -> bool:
    return {"subject_id", "study_id", "dicom_filepath"} <= set(header(root / _RECORDS))


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    table = read_table(root / _RECORDS, columns=("subject_id", "study_id", "dicom_filepath"))
    labels = _labels_by_study(root, notes)
    for cells in table.sort_values("dicom_filepath").to_dict("records"):
        name = cells["dicom_filepath"]
        if not _PATH.fullmatch(name):
            notes[f"lines of {_RECORDS} whose path is not as the set writes them"] += 1
            continue
        path = root / name
        if not path.exists():
            notes[f"files in {_RECORDS} that were not downloaded"] += 1
        elif is_regular(path, notes):
            yield Row(
                path=path,
                patient=f"mimic-iv-echo/{cells['subject_id']}",
                study=cells["study_id"],
                labels=labels.get(cells["study_id"], {}),
            )


def _labels_by_study(root: Path, notes: Notes) -> dict[str, dict[str, Label]]:
    """Report values of each study; none where either table was not downloaded (counted)."""
    measured = next((root / name for name in _MEASUREMENTS if (root / name).is_file()), None)
    if measured is None or not (root / _STUDIES).is_file():
        notes[f"tables not here: {_STUDIES} or structured-measurement (no labels)"] += 1
        return {}
    studies = read_table(root / _STUDIES, columns=("study_id", "measurement_id"))
    study_of: dict[str, list[str]] = {}
    for study, measurement in studies[["study_id", "measurement_id"]].itertuples(index=False, name=None):
        # The identifiers are integers; a column with gaps is written as `123.0`.
        study_of.setdefault(measurement.removesuffix(".0"), []).append(study)
    study_of.pop("", None)
    labels: dict[str, dict[str, Label]] = {}
    for chunk in read_chunks(measured, columns=("measurement_id", "measurement", "result", "unit")):
        chunk = chunk[chunk["measurement"].str.casefold().isin(_NAMES.keys())]
        columns = ["measurement_id", "measurement", "result", "unit"]
        for key, measurement, result, unit in chunk[columns].itertuples(index=False, name=None):
            label = _label(measurement.casefold(), result, unit.casefold(), notes)
            for study in study_of.get(key.removesuffix(".0"), ()) if label else ():
                labels.setdefault(study, {}).update([label])  # type: ignore[list-item]
    return labels


def _label(measurement: str, result: str, unit: str, notes: Notes) -> tuple[str, Label] | None:
    name, units = _NAMES[measurement]
    if unit not in units:
        notes[f"values of {name} in another unit (left out)"] += 1
        return None
    value = sex(result) if name == "sex" else number(result)
    if value is None:
        if result:
            notes[f"cells of {name} that hold no number"] += 1
        return None
    return name, value


MIMIC = Adapter(
    name="mimic-iv-echo",
    title="MIMIC-IV-ECHO",
    recognises=_is_mimic,
    rows=_rows,
    patient_rule="subject_id",
)
