"""EchoNet-Dynamic (Ouyang et al., Nature 2020): FileList.csv, VolumeTracings.csv, Videos/*.avi; apical four-chamber.

Its layout is also that of other sets of EchoNet and of generators trained on them. https://echonet.github.io/dynamic/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from echofm.clip import Label
from echofm.readers.datasets.folder import Folder, Notes, listing, unpacked
from echofm.readers.datasets.labels import LEFT_OUT, numbers, with_splits
from echofm.readers.datasets.table import numeric, outlines, read_table
from echofm.readers.datasets.truth import LeftVentricleTraces, Polygons, is_phantom, phantom_truth
from echofm.readers.source import Row
from echofm.readers.suffixes import MEDIA, VIDEO, media_suffix, stem_of

TABLE = "FileList.csv"
TRACINGS = "VolumeTracings.csv"
# Where videos lie; generators write each sample once a format, and the first one that has it is taken.
VIDEOS = ("Videos", "avi", "mp4", "mov", "gif", "jpg")

COLUMNS = ("FileName", "EF", "ESV", "EDV", "Split")


def has_videos(folder: Folder) -> bool:
    """Whether a list has its videos beside it, in a folder or not."""
    return folder.folder(*VIDEOS) is not None or any(media_suffix(path) in VIDEO for path in folder.files)


def videos(folder: Folder, notes: Notes) -> dict[str, Path]:
    """Files by stem, each video once, whatever formats and folders it is written in (counted)."""
    found: dict[str, Path] = {}
    inside = [home for home in map(folder.folder, VIDEOS) if home is not None]
    for home in [unpacked(home) for home in inside] or [folder.path]:
        files = listing(home, notes).values()
        for path in sorted(files, key=lambda path: (path.suffix.lower() != ".avi", path.name)):
            if media_suffix(path) in MEDIA and found.setdefault(stem_of(path), path) is not path:
                notes["videos that are here in a further format (left out)"] += 1
    return found


def listed_videos(
    table: pd.DataFrame, folder: Folder, notes: Notes, *, name: str = TABLE, column: str = "FileName"
) -> Iterator[tuple[dict[str, str], str, Path]]:
    """(cells, stem, file) of each line of a list, sorted by stem; counts what only one of the two has.

    Some copies write the file's suffix in the list, some do not.
    """
    there = videos(folder, notes)
    stems = table[column].map(lambda cell: stem_of(Path(cell)) if media_suffix(cell) in VIDEO else cell)
    twice = stems.duplicated()
    if twice.any():
        notes[f"lines of {name} that name a file again"] += int(twice.sum())
    for stem, cells in sorted(zip(stems[~twice], table[~twice].to_dict("records")), key=lambda line: line[0]):
        path = there.pop(stem, None)
        if path is None:
            notes[f"videos in {name} that are not in Videos/"] += 1
        elif cells.get("split") != LEFT_OUT:
            yield {str(key): value for key, value in cells.items()}, stem, path
    if there:
        notes[f"videos in Videos/ that {name} does not name (left out)"] += len(there)


def ventricle(cells: Mapping[str, str], notes: Notes) -> dict[str, Label]:
    """Ejection fraction and volumes; a volume of 0 stands for one that nobody knows."""
    labels = numbers({"ef_percent": cells["EF"], "edv_ml": cells["EDV"], "esv_ml": cells["ESV"]}, notes)
    for name in ("edv_ml", "esv_ml"):
        if labels.get(name) == 0:
            notes[f"cells of {name} that are 0 (no volume)"] += 1
            del labels[name]
    return labels


class Tracings:
    """VolumeTracings.csv of a folder: outlines by video.

    points: "X1 Y1 X2 Y2": a frame's first row is the long axis, the others are chords from one wall to the other, down
    one and up the other (as in the authors' echonet/datasets/echo.py); "X Y": the points of the polygon.
    """

    def __init__(self, folder: Folder, notes: Notes, *, points: Sequence[str]) -> None:
        self._path = folder.table(TRACINGS)
        self._traces: dict[str, dict[int, np.ndarray]] = {}
        if self._path is None:
            return
        table = read_table(self._path, columns=("FileName", *points, "Frame"))
        table = numeric(table, (*points, "Frame"), notes, self._path.name)
        for name, frame, lines in outlines(table, video="FileName", frame="Frame", points=points):
            outline = np.concatenate([lines[1:, :2], lines[:0:-1, 2:]]) if len(points) == 4 else lines
            self._traces.setdefault(stem_of(Path(name)), {})[frame] = outline

    def of(self, stem: str) -> LeftVentricleTraces | None:
        """What was traced in one video, None where nothing was."""
        polygons: Polygons | None = self._traces.get(stem)
        return None if polygons is None or self._path is None else LeftVentricleTraces(polygons, table=self._path)


def recognises(folder: Folder) -> bool:
    """Whether a folder has this set's list, and videos beside it."""
    return folder.has(TABLE, "FileName", "EF", "EDV", "Split") and has_videos(folder)


def rows(root: Path, notes: Notes) -> Iterator[Row]:
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
