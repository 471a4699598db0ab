"""EchoNet-Dynamic (Ouyang et al., Nature 2020): FileList.csv, VolumeTracings.csv, Videos/*.avi; apical four-chamber.

https://echonet.github.io/dynamic/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.filelist import TABLE, Tracings, has_videos, listed_videos, ventricle
from echofm.readers.datasets.folder import Folder
from echofm.readers.datasets.split_column import with_splits
from echofm.readers.datasets.table import read_table
from echofm.readers.datasets.truth import is_phantom, phantom_truth
from echofm.readers.datasets.walk import Notes
from echofm.readers.source import Row

COLUMNS = ("FileName", "EF", "ESV", "EDV", "Split")


def is_list(folder: Folder) -> bool:
    """Whether a folder has this set's list, and videos beside it."""
    return folder.has(TABLE, "FileName", "EF", "EDV", "Split") and has_videos(folder)


def _rows(root: Path, notes: Notes) -> Iterator[Row]:
    folder = Folder(root)
    table = with_splits(read_table(folder.needed(TABLE), columns=COLUMNS), "Split", notes, name=TABLE)
    generated = is_phantom(root)
    traces = Tracings(folder, notes, points=("X1", "Y1", "X2", "Y2"))
    for cells, stem, path in listed_videos(table, folder, notes):
        yield Row(
            path=path,
            # The phantom has several clips of one patient, PATIENT-CLIP-VIEW; the public set has one video of each.
            patient=f"echonet-dynamic/{stem.split('-')[0] if generated else stem}",
            split=cells["split"] or None,
            view=stem.split("-")[-1] if generated else "A4C",
            kind=None if generated else "bmode",
            labels=ventricle(cells, notes),
            add_truth=phantom_truth(root, stem) or traces.of(stem),
        )


DYNAMIC = Adapter(
    name="echonet-dynamic",
    title="EchoNet-Dynamic",
    recognises=is_list,
    rows=_rows,
    patient_rule="one video per patient; in a phantom the first part of the name",
    is_cut=True,
)
