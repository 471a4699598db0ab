"""Tables that a set keeps in an Excel workbook (.xlsx), or in CSV where somebody exported it."""

from __future__ import annotations

import pandas as pd

from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Folder

_MAX_MB, _MAX_ROWS = 16, 100_000


def read_any(folder: Folder, stem: str) -> tuple[str, pd.DataFrame] | None:
    """(name, first sheet) of `stem`.csv or `stem`.xlsx, all columns, cells as text; None where there is neither.

    Raises EchofmError where it is no such table, or openpyxl, which reads workbooks, is not installed.
    """
    path = folder.table(f"{stem}.csv") or folder.table(f"{stem}.xlsx")
    if path is None:
        return None
    if path.stat().st_size > _MAX_MB * 2**20:
        raise EchofmError(f"{path.name} is larger than {_MAX_MB} MB, which no table of this set is")
    options = {"dtype": object, "keep_default_na": False, "nrows": _MAX_ROWS}
    try:
        table = pd.read_excel(path, **options) if path.suffix.lower() == ".xlsx" else pd.read_csv(path, **options)
    except ImportError:
        raise EchofmError(
            f"{path.name} is an Excel workbook: install openpyxl, or save it as {stem}.csv beside it"
        ) from None
    except Exception:
        # Libraries raise anything over a damaged workbook, and their texts quote cells.
        raise EchofmError(f"{path.name} is no readable table; download it again") from None
    table.columns = [str(name).strip() for name in table.columns]
    return path.name, table.map(lambda cell: str(cell).strip())
