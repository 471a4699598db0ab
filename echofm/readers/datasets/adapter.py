"""What every data set's file offers: how to know the folder, and its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from echofm.errors import EchofmError
from echofm.readers.datasets.folder import Folder, Notes
from echofm.readers.source import Row


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One data set.

    name: as given to `--dataset`. title: as people call it.
    recognises: whether a folder is this set; looks at names and table headers only.
    rows: the set's files, sorted; counts in `notes` what it passes over. Raises EchofmError on a wrong table.
    patient_rule: how files are grouped by patient, for reports.
    is_cut: whether the publisher has cut the images to the sector. A hospital's folder may have the same layout, so
        that is believed only where the user names the set.
    """

    name: str
    title: str
    recognises: Callable[[Folder], bool]
    rows: Callable[[Path, Notes], Iterator[Row]]
    patient_rule: str
    is_cut: bool = False


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """A folder, understood. `notes` says what the last walk through `rows()` passed over, and how often.

    is_cut: the user named a set whose publisher has cut the images.
    """

    name: str
    root: Path
    patient_rule: str
    make_rows: Callable[[Path, Notes], Iterator[Row]]
    is_cut: bool = False
    notes: Notes = field(default_factory=Notes)

    @property
    def unread(self) -> Counter[str]:
        """Files of kinds that are not read, by suffix, of the last walk."""
        return self.notes.unread

    def rows(self, *, doubtful: bool = False) -> Iterator[Row]:
        """Every file, lazily, sorted, the same on each call.

        Raises EchofmError on a missing or wrong table and, after the last row, where it is not known who the patients
        are, with the ways out. doubtful: not then.
        """
        self.notes.clear()
        try:
            for row in self.make_rows(self.root, self.notes):
                yield replace(row, cut_by_publisher=True) if self.is_cut else row
        except OSError as error:
            # Its text holds a path.
            raise EchofmError(
                f"a folder of this data set cannot be read ({error.strerror}); check its rights"
            ) from None
        if self.notes.doubt is not None and not doubtful:
            raise EchofmError(self.notes.doubt)
