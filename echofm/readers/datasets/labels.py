"""What data sets say about a clip, under one naming scheme: the quantity, then its unit (docs/datasets.md); its split.

A split's word that nobody knows costs its rows, never the set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pandas as pd

from echofm.clip import Label
from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Notes
from echofm.readers.datasets.table import place, shown
from echofm.split import SPLITS

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
    "diagnosis": "a known word, by `--map` any",
    "rhythm": "a known word, by `--map` any",
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

# Of all sets; "" and the words of "no split" leave it to `echofm shards`.
SPLIT_WORDS: Mapping[str, str | None] = {
    **{name: name for name in SPLITS},
    **{"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"},
    **dict.fromkeys(("", "nan", "na", "n/a", "none", "null"), None),
}
# The split of rows that are not to be used.
LEFT_OUT = "left out"


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


def given_split(cell: str, *, table: str, row: int, column: str = "split") -> str | None:
    """A cell of the user's own table. Raises EchofmError on another word, as it may hide a test set."""
    if cell.casefold() not in SPLIT_WORDS:
        raise EchofmError(f"{place(table, row, column)}: {shown(cell)} is none of train, val and test; correct it")
    return SPLIT_WORDS[cell.casefold()]


def with_splits(
    table: pd.DataFrame, column: str, notes: Notes, *, name: str, further: Mapping[str, str | None] = SPLIT_WORDS
) -> pd.DataFrame:
    """A set's table with the column `split`, "" where it gives none, LEFT_OUT where nobody knows the word.

    Such rows are left out, as a hidden test set might be among them, and counted with the word and where it is.
    further: the set's own words, lower-case, in addition; a number as `3`.
    Raises EchofmError where most rows have such a word: then it is the table that is not understood.
    """
    words = {**SPLIT_WORDS, **further}
    cells = table[column]
    splits = {cell: words.get(_key(cell), LEFT_OUT) or "" for cell in cells.unique()}
    table = table.assign(split=cells.map(splits).astype(object))
    unknown = table["split"] == LEFT_OUT
    if unknown.any():
        row, word = table.index[unknown][0], cells[unknown].iloc[0]
        text = f"{place(name, row, column)}: {shown(word)} is no split that this set is known to have"
        if 2 * int(unknown.sum()) > len(table):
            raise EchofmError(f"{text}; correct it")
        notes[f"rows left out, as nothing is known of their split ({text})"] += int(unknown.sum())
    return table


def _key(cell: str) -> str:
    value = number(cell)
    return str(int(value)) if value is not None and value == int(value) else cell.casefold()
