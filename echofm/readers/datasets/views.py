"""Views under their usual names, however a hospital writes them."""

from __future__ import annotations

import re

_APICAL = {"2": "two", "3": "three", "4": "four", "5": "five"}
_PLAIN = {
    **{"plax": "PLAX", "parasternallongaxis": "PLAX", "parasternallong": "PLAX", "pslax": "PLAX", "lax": "PLAX"},
    **{"psax": "PSAX", "parasternalshortaxis": "PSAX", "parasternalshort": "PSAX", "pssax": "PSAX", "sax": "PSAX"},
    **{"apicallongaxis": "A3C", "aplax": "A3C", "apicallax": "A3C"},
    **{"sc": "SC", "subcostal": "SC", "subc": "SC", "ssn": "SSN", "suprasternal": "SSN", "suprasternalnotch": "SSN"},
}


def view_of(cell: str) -> str | None:
    """The usual name: `AP4`, `4CH` and `Apical 4-chamber view` are A4C; None for another word."""
    letters = re.sub(r"[^a-z0-9]|view$", "", cell.casefold())
    if letters in _PLAIN:
        return _PLAIN[letters]
    for digit, number in _APICAL.items():
        if re.fullmatch(
            f"(a|ap|apical)({digit}|{number})|(a|ap|apical)?({digit}|{number})(c|ch|cv|chamber)s?", letters
        ):
            return f"A{digit}C"
    return None
