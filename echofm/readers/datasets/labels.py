"""What data sets say about a clip, under one naming scheme: the quantity, then its unit (docs/datasets.md)."""

from __future__ import annotations

import math
import re

from echofm.clip import Label
from echofm.readers.datasets.walk import Notes

# Name -> what it is. A number has its unit last in the name; a label without a unit is a word.
NUMBERS = {
    "ef_percent": "left-ventricular ejection fraction",
    "edv_ml": "left-ventricular end-diastolic volume",
    "esv_ml": "left-ventricular end-systolic volume",
    "ivsd_cm": "interventricular septum, end-diastole",
    "lvidd_cm": "left-ventricular internal diameter, end-diastole",
    "lvids_cm": "left-ventricular internal diameter, end-systole",
    "lvpwd_cm": "left-ventricular posterior wall, end-diastole",
    "la_volume_ml": "left-atrial volume",
    "lvot_diameter_cm": "outflow-tract diameter",
    "av_peak_velocity_m_s": "peak velocity through the aortic valve",
    "av_mean_gradient_mmhg": "mean pressure gradient over the aortic valve",
    "av_area_cm2": "aortic valve area by continuity",
    "tapse_mm": "tricuspid annular plane systolic excursion",
    "tr_gradient_mmhg": "tricuspid regurgitation pressure gradient",
    "heart_rate_bpm": "heart rate",
    "age_years": "age",
    "weight_kg": "body weight",
    "height_cm": "body height",
    "fold": "the set's own cross-validation fold",
}
WORDS = {
    "sex": "F or M",
    "image_quality": "good, medium or poor",
    "ef_method": "biplane, 3d, middle_of_range or one_value",
    "aortic_stenosis": "no_as, mild_as, mildtomod_as, moderate_as, modtosevere_as or severe_as",
    "aortic_regurgitation": "a grade: none, trace, mild, mild_moderate, moderate, moderate_severe or severe",
    "mitral_regurgitation": "a grade",
    "tricuspid_regurgitation": "a grade",
    "rv_dysfunction": "a grade, of the right ventricle",
    "pulmonary_hypertension_grade": "a grade",
    "myocardial_infarction": "yes or no",
    "wall_motion_abnormality": "yes or no",
    "pulmonary_hypertension": "yes or no",
    "atrial_septal_defect": "yes or no",
    "diagnosis": "the source's own word",
    "rhythm": "the source's own word",
}
GRADES = ("none", "trace", "mild", "mild_moderate", "moderate", "moderate_severe", "severe")
# Words that are levels of one thing, rising.
ORDERS = {
    "image_quality": ("poor", "medium", "good"),
    "aortic_stenosis": ("no_as", "mild_as", "mildtomod_as", "moderate_as", "modtosevere_as", "severe_as"),
    **{name: GRADES for name, meaning in WORDS.items() if meaning.startswith("a grade")},
}
UNITS = (
    *("percent", "ml", "l", "cm", "mm", "cm2", "m2", "ml_m2", "g", "kg", "kg_m2", "years", "bpm", "hz", "s", "ms"),
    *("mmhg", "m_s", "cm_s", "degrees"),
)

_WORD = re.compile(r"[a-z0-9][a-z0-9_./ -]{0,39}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def number(cell: str) -> float | None:
    """A finite number, or None: for an empty cell, text, a formula, infinity or not-a-number."""
    if not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def numbers(cells: dict[str, str], notes: Notes) -> dict[str, Label]:
    """Labels from cells named by the scheme; what is neither empty nor a number is left out and counted."""
    found: dict[str, Label] = {}
    for name, cell in cells.items():
        value = number(cell)
        if value is not None:
            found[name] = value
        elif cell and cell.casefold() not in ("nan", "na", "n/a", "none", "null"):
            # Not read as a number: elsewhere "1,234" is a thousand and more.
            comma = " (a decimal comma: write 55.5)" if number(cell.replace(",", ".")) is not None else ""
            notes[f"cells of {name} that hold no number{comma}"] += 1
    return found


def word(cell: str) -> str | None:
    """A short lower-case word as a label's value; None for a formula, a sentence, control characters."""
    lowered = cell.strip().casefold()
    return lowered if _WORD.fullmatch(lowered) else None


def sex(cell: str) -> str | None:
    """ "F", "M" or None."""
    return {"f": "F", "female": "F", "m": "M", "male": "M"}.get(cell.strip().casefold())


def has_unit(name: str) -> bool:
    """Whether a manifest's column is a number under the scheme: known, or ending in a unit."""
    return name in NUMBERS or any(name.endswith("_" + unit) and len(name) > len(unit) + 1 for unit in UNITS)
