"""What the columns of a table of one's own mean: which are labels, under which name, of which kind.

A column is read unasked where its header states a quantity with its unit (`LVEF (%)`, `ivsd_cm`), is a known word
(`Sex`), or its cells are yes and no, or grades. Others, which may hold names, dates or numbers of patients, are only
read where the user gives them a label's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from echofm.clip import LABEL_NAME, Label
from echofm.readers.datasets.cells import IS_MISSING, as_date, as_grade, as_number, as_yes_no, quoted
from echofm.readers.datasets.known_words import known_word
from echofm.readers.datasets.labels import NUMBERS, UNITS, WORDS, has_unit, sex, word
from echofm.readers.datasets.views import view_of

Kind = Literal["number", "yes_no", "grade", "word", "known_word", "sex", "date", "year", "view"]
_WHAT: Mapping[Kind, str] = {
    **{"number": "number", "yes_no": "yes or no", "grade": "grade", "word": "word", "sex": "sex"},
    "known_word": "known word (--labels with --map COLUMN=NAME takes others)",
    **{"date": "date (write YYYY-MM-DD)", "year": "date (write YYYY-MM-DD)", "view": "view"},
}
_UNIT_SPELLINGS = {
    **{"%": "percent", "pct": "percent", "ml/m2": "ml_m2", "ml/m²": "ml_m2", "kg/m2": "kg_m2", "kg/m²": "kg_m2"},
    **{"cm²": "cm2", "m²": "m2", "m/s": "m_s", "cm/s": "cm_s", "beats/min": "bpm", "1/min": "bpm", "/min": "bpm"},
    **{"yrs": "years", "y": "years", "yr": "years", "year": "years", "°": "degrees", "deg": "degrees", "mm hg": "mmhg"},
}
# As people write quantities of the scheme, letters and digits alone, without the unit.
_QUANTITIES = {
    **dict.fromkeys(("ef", "lvef", "ejectionfraction", "lvejectionfraction", "efbiplane", "lvefbiplane"), "ef_percent"),
    **dict.fromkeys(("edv", "lvedv", "enddiastolicvolume"), "edv_ml"),
    **dict.fromkeys(("esv", "lvesv", "endsystolicvolume"), "esv_ml"),
    **dict.fromkeys(("lvidd", "lvedd"), "lvidd_cm") | dict.fromkeys(("lvids", "lvesd"), "lvids_cm"),
    **dict.fromkeys(("hr", "heartrate"), "heart_rate_bpm") | {"age": "age_years", "weight": "weight_kg"},
    **dict.fromkeys(("sex", "gender"), "sex") | {"imagequality": "image_quality", "view": "view"},
}
# Their unit goes without saying; a length may be in cm or mm.
_UNITLESS = ("ef_percent", "heart_rate_bpm", "age_years", "sex", "image_quality", "view")
_HEADER = re.compile(r"(?P<name>.*?)[\s_,]*[(\[]\s*(?P<unit>[^()\[\]]+?)\s*[)\]]|(?P<bare>.*?)[\s_,]+(?P<sign>%)")
_FREE_TEXT, _FEWEST, _MOSTLY, _LISTED = 0.5, 4, 0.9, 5


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column as labels. values: by row where the cell is read. unread: by row the cells that are not."""

    header: str
    name: str
    kind: Kind
    values: dict[int, Label] = field(default_factory=dict, repr=False)
    unread: dict[int, str] = field(default_factory=dict, repr=False)

    @property
    def note(self) -> str | None:
        """What could not be read: where, and the cell in so far as it cannot be a name."""
        cells = [f"row {row + 1}: {quoted(cell)}" for row, cell in list(self.unread.items())[:_LISTED]]
        more = ["..."] if len(self.unread) > _LISTED else []
        return f"cells of {self.header} that hold no {_WHAT[self.kind]} ({'; '.join(cells + more)})" if cells else None


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A column that is no label, and what it seems to hold."""

    header: str
    holds: str


def understood(header: str, cells: Mapping[int, str], *, name: str | None = None) -> Column | Unread:
    """A column as labels. cells: by row. name: the label's, chosen by the user; by default the header tells it."""
    there = {row: cell for row, cell in cells.items() if cell.casefold() not in IS_MISSING}
    stated = name or label_name(header)
    kind = _kind_of_name(stated) if stated else None
    if stated is None and _slug(header) is None:
        return Unread(header=header, holds="a name that no label can have: a-z, digits and _, a letter first")
    stated = stated or _slug(header)
    assert stated is not None
    if kind is None:
        kind = _kind_of_cells(list(there.values()))
        if name is None and kind not in ("yes_no", "grade"):
            return Unread(header=header, holds=_holds(kind, there))
    if kind == "word" and name is not None and _is_free_text(there.values()):
        return Unread(header=header, holds="names or free text, a value of its own in most rows")
    if kind == "word" and name is None:
        kind = "known_word"
    read = known_word if kind == "known_word" else partial(_value, kind=kind)
    values = {row: value for row, cell in there.items() if (value := read(stated, cell)) is not None}
    if stated == "ef_percent" and values and max(map(float, values.values())) <= 1:
        return Unread(header=header, holds="numbers of at most 1: write per cent")
    unread = {row: cell for row, cell in there.items() if row not in values}
    if kind == "number":
        unread = {row: cell for row, cell in unread.items() if cell.casefold() != "none"}
    return Column(header=header, name=stated, kind=kind, values=values, unread=unread)


def label_name(header: str) -> str | None:
    """The label that a header states: a name of the scheme, a known quantity, or any name with its unit."""
    plain = header.strip().casefold()
    if re.fullmatch(LABEL_NAME, plain) and (has_unit(plain) or plain in WORDS):
        return plain
    parts = _HEADER.fullmatch(plain)
    base, unit = (plain, None) if parts is None else (parts["name"] or parts["bare"], parts["unit"] or parts["sign"])
    known = _QUANTITIES.get(re.sub(r"[^a-z0-9]", "", base or ""))
    if unit is None:
        slug = _slug(plain)
        return known if known in _UNITLESS else slug if slug and has_unit(slug) else None
    unit = _UNIT_SPELLINGS.get(unit, unit)
    if unit not in UNITS:
        return None
    if known is not None and known.endswith("_" + unit):
        return known
    slug = _slug(base or "")
    if slug is None:
        return None
    return slug if slug.endswith("_" + unit) else f"{slug}_{unit}"


def _slug(header: str) -> str | None:
    """A label's name from plain words; of e' and E the mark is all that tells them apart, so that it is not dropped."""
    slug = re.sub(r"[\s_/-]+", "_", header.strip().casefold()).strip("_")
    return slug if re.fullmatch(LABEL_NAME, slug) else None


def _kind_of_name(name: str) -> Kind | None:
    if name in ("view", "sex"):
        return "view" if name == "view" else "sex"
    if name in WORDS:
        meaning = WORDS[name]
        return "grade" if meaning.startswith("a grade") else "yes_no" if meaning == "yes or no" else "word"
    if name in NUMBERS or has_unit(name):
        return "number"
    return "date" if name.endswith("_date") else "year" if name.endswith("_year") else None


def _kind_of_cells(cells: Sequence[str]) -> Kind:
    kinds: tuple[Kind, ...] = ("yes_no", "grade", "date", "number")
    found = (kind for kind in kinds if cells and _share(cells, kind) >= _MOSTLY)
    return next(found, "word")


def _share(cells: Sequence[str], kind: Kind) -> float:
    return sum(_value("", cell, kind) is not None for cell in cells) / len(cells)


def _holds(kind: Kind, there: Mapping[int, str]) -> str:
    if not there:
        return "nothing"
    return {"date": "dates", "number": "numbers without a unit"}.get(kind, "words")


def _value(name: str, cell: str, kind: Kind) -> Label | None:
    if kind == "number":
        return as_number(cell, unit=name, spellings=_UNIT_SPELLINGS)
    if kind in ("date", "year"):
        date = as_date(cell)
        return date if date is None or kind == "date" else int(date[:4])
    return {"yes_no": as_yes_no, "grade": as_grade, "sex": sex, "view": view_of}.get(kind, word)(cell)


def _is_free_text(cells: Collection[str]) -> bool:
    several = len({cell.casefold() for cell in cells})
    return several >= _FEWEST and several > _FREE_TEXT * len(cells)
