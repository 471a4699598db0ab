"""Cells of a table of one's own: numbers with their unit, yes and no, grades, dates; what an error may show of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from echofm.readers.datasets.labels import GRADES, number

IS_MISSING = frozenset(("", "nan", "na", "n/a", "null", "-", "--", "?", "unknown", "missing", "not available"))

_YES = ("yes", "y", "true", "1", "1.0", "positive", "pos", "present", "+")
_NO = ("no", "n", "false", "0", "0.0", "negative", "neg", "absent")
_GRADES = {**{name: name for name in GRADES}, "no": "none", "absent": "none", "trivial": "trace"}
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%Y%m%d")
_TIME = re.compile(r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")
# Of a number that cannot be one of a patient's: few digits.
_MOST_DIGITS, _MOST_LETTERS = 4, 12


def as_number(cell: str, *, unit: str, spellings: Mapping[str, str]) -> float | None:
    """A number, with or without the unit in which `unit` (a label's name) ends: 55, `55 %`."""
    found = number(cell)
    if found is not None:
        return found
    parts = re.fullmatch(r"([-+]?\d*\.?\d+)\s*([^\d\s].*)", cell.strip().casefold())
    if parts is None or not unit.endswith("_" + spellings.get(parts[2], parts[2])):
        return None
    return number(parts[1])


def as_yes_no(cell: str) -> str | None:
    """ "yes", "no" or None."""
    plain = cell.strip().casefold()
    return "yes" if plain in _YES else "no" if plain in _NO else None


def as_grade(cell: str) -> str | None:
    """A word of `GRADES`; `mild to moderate` and `mild-moderate` are mild_moderate."""
    return _GRADES.get(re.sub(r"[\s_/-]+(to[\s_-]+)?", "_", cell.strip().casefold()))


def as_date(cell: str) -> str | None:
    """YYYY-MM-DD; None where day and month cannot be told apart, as in 03/04/2022."""
    plain = _TIME.sub("", cell.strip())
    for form in _DATES:
        try:
            date = datetime.strptime(plain, form)
        except ValueError:
            continue
        if 1900 <= date.year <= 2200:
            return date.strftime("%Y-%m-%d")
    return None


def quoted(cell: str) -> str:
    """A cell in an error: short numbers with their signs, and yes, no and grades; of others only what they are like."""
    if as_date(cell) or re.fullmatch(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}", cell):
        return "a date"
    digits = len(re.findall(r"\d", cell))
    if re.fullmatch(r"[\d.,+<>≤≥~% -]+", cell) and digits <= _MOST_DIGITS and len(cell) <= _MOST_LETTERS:
        comma = number(cell.replace(",", ".")) if "," in cell else None
        return f"{cell!r}" if comma is None else f"{cell!r}, write {comma:g}"
    if as_yes_no(cell) or as_grade(cell):
        return repr(cell)
    return "a long number" if cell.replace(".", "").isdigit() else f"something of {len(cell)} characters"
