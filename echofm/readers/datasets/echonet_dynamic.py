"""EchoNet-Dynamic (Ouyang et al., Nature 2020), and EchoNet-Synthetic, which is written in its layout.

FileList.csv, VolumeTracings.csv (absent in EchoNet-Synthetic) and Videos/*.avi; apical four-chamber.
https://echonet.github.io/dynamic/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from echofm.readers.datasets.adapter import Adapter
from echofm.readers.datasets.labels import given_split, numbers
from echofm.readers.datasets.table import header, numeric, once, outlines, read_table
from echofm.readers.datasets.truth import LeftVentricleTraces, Polygons, is_phantom, phantom_truth
from echofm.readers.datasets.walk import Notes, listing
from echofm.readers.source import Row

_COLUMNS = ("FileName", "EF", "ESV", "EDV", "Split")
_POINTS = ("X1", "Y1", "X2", "Y2")


def _is_dynamic(root: Path) -> bool:
    return {"filename", "ef", "edv", "split"} <= set(header(root / "FileList.csv")) and (root / "Videos").is_dir()


def _is_synthetic(root: Path) -> bool:
    # The same layout; only the videos' names tell.
    videos = root / "Videos"
    return _is_dynamic(root) and any(videos.glob("sample_*.avi")) and not any(videos.glob("0X*.avi"))


def _rows(root: Path, notes: Notes, set_name: str) -> Iterator[Row]:
    table = read_table(root / "FileList.csv", columns=_COLUMNS)
    generated = is_phantom(root)
    videos = {name.removesuffix(".avi"): path for name, path in listing(root / "Videos", notes).items()}
    traces = _traces(tracings := root / "VolumeTracings.csv", notes)
    table["FileName"] = table["FileName"].str.removesuffix(".avi")
    for cells in once(table, "FileName", notes, "FileList.csv"):
        stem = cells["FileName"]
        path = videos.pop(stem, None)
        if path is None:
            notes["videos in FileList.csv that are not in Videos/"] += 1
            continue
        truth = phantom_truth(root, stem)
        if truth is None and stem in traces:
            truth = LeftVentricleTraces(traces[stem], table=tracings)
        labels = {"ef_percent": cells["EF"], "edv_ml": cells["EDV"], "esv_ml": cells["ESV"]}
        yield Row(
            path=path,
            # The phantom has several clips of one patient, PATIENT-CLIP-VIEW; the public set has one video of each.
            patient=f"{set_name}/{stem.split('-')[0] if generated else stem}",
            split=given_split(cells["Split"], table="FileList.csv"),
            view=stem.split("-")[-1] if generated else "A4C",
            kind=None if generated else "bmode",
            labels=numbers(labels, notes),
            add_truth=truth,
        )
    if videos:
        notes["videos in Videos/ that FileList.csv does not name (left out)"] += len(videos)


def _traces(path: Path, notes: Notes) -> dict[str, Polygons]:
    """Outlines by video: a frame's first row is the long axis, the others are chords from one wall to the other."""
    if not path.is_file():
        return {}
    table = read_table(path, columns=("FileName", *_POINTS, "Frame"))
    table = numeric(table, (*_POINTS, "Frame"), notes, path.name)
    traces: dict[str, dict[int, np.ndarray]] = {}
    for name, frame, lines in outlines(table, video="FileName", frame="Frame", points=_POINTS):
        chords = lines[1:]
        # Down one wall, up the other (as in the authors' echonet/datasets/echo.py).
        outline = np.concatenate([chords[:, :2], chords[::-1, 2:]])
        traces.setdefault(name.removesuffix(".avi"), {})[frame] = outline
    return dict(traces)


DYNAMIC = Adapter(
    name="echonet-dynamic",
    title="EchoNet-Dynamic",
    recognises=_is_dynamic,
    rows=lambda root, notes: _rows(root, notes, "echonet-dynamic"),
    patient_rule="one video per patient; in a phantom the first part of the name",
)
SYNTHETIC = Adapter(
    name="echonet-synthetic",
    title="EchoNet-Synthetic",
    recognises=_is_synthetic,
    rows=lambda root, notes: _rows(root, notes, "echonet-synthetic"),
    patient_rule="one video per (generated) patient",
)
