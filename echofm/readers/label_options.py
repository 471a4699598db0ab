"""LabelOptions: labels out of a table of one's own, the same options on every command that takes them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from echofm.errors import EchofmError
from echofm.readers.labels import LabelKey, OwnLabels, parsed_map


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Where labels come from that the source itself does not give (docs/datasets.md#labels)."""

    labels: Annotated[Path | None, arg(metavar="FILE.csv")] = None
    """Your own table of labels: a line a file, patient or study, as --key says."""
    key: LabelKey = "filename"
    """What the lines of --labels name: files, patients (DICOM's PatientID), studies, or clips by their ids. Of shards
    and tables no file name is known."""
    map: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="COLUMN=NAME")] = ()
    """A column of --labels under a label's name: --map "LVEF (%)=ef_percent"; may be given several times. Columns
    whose header tells their unit, yes and no, and grades are read without it."""

    def read(self) -> OwnLabels | None:
        """The table. Raises EchofmError where it cannot be used, or --map stands alone."""
        if self.labels is None:
            if self.map:
                raise EchofmError("--map names columns of --labels; give both")
            return None
        return _read(self.labels, self.key, self.map)


@functools.lru_cache(maxsize=4)
def _read(path: Path, key: LabelKey, words: tuple[str, ...]) -> OwnLabels:
    return OwnLabels(path, by=key, choose=parsed_map(words))
