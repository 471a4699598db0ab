"""The layouts of EchoNet-Dynamic (https://echonet.github.io/dynamic) and EchoNet-Pediatric, as users read them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.phantom.clip import PhantomClip
from echofm.phantom.layout import Layout
from echofm.phantom.video import write_mjpeg

Row = dict[str, Any]
Array = npt.NDArray[np.float64]

_SPLITS = {"train": "TRAIN", "val": "VAL", "test": "TEST"}


class EchoNetDynamic(Layout):
    """FileList.csv, VolumeTracings.csv, Videos/STEM.avi. Unlike the real set, a patient may have several videos."""

    name = "echonet-dynamic"
    views = ("A4C",)
    other_views = True

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        """Write one video; return its rows of both tables."""
        folder = root / "Videos"
        folder.mkdir(parents=True, exist_ok=True)
        write_mjpeg(folder / f"{stem}.avi", clip.frames_THWC, clip.acquisition.frame_rate_hz)
        frames, height, width, _ = clip.frames_THWC.shape
        patient = clip.patient
        listed = {
            "FileName": stem,
            "EF": patient.ef_percent,
            "ESV": patient.esv_ml,
            "EDV": patient.edv_ml,
            "FrameHeight": height,
            "FrameWidth": width,
            "FPS": clip.acquisition.frame_rate_hz,
            "NumberOfFrames": frames,
            "Split": _SPLITS[split],
        }
        return {"listed": listed, "traced": _chords(clip) if clip.view in ("A4C", "A2C") else []}

    def finish(self, root: Path, rows: Sequence[Row]) -> None:
        """Write the tables."""
        _write_csv(root / "FileList.csv", [row["listed"] for row in rows])
        columns = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
        _write_csv(root / "VolumeTracings.csv", [line for row in rows for line in row["traced"]], columns)


def _chords(clip: PhantomClip) -> list[Row]:
    """End-systole first, end-diastole last; of each the long axis, then 20 chords from apex to base."""
    lines = []
    for frame in reversed(clip.key_frames()):
        left, right = clip.outline_TSL2[frame]
        ends = [((left[0] + right[0]) / 2, (left[-1] + right[-1]) / 2), *zip(left[1:], right[1:], strict=True)]
        for start, stop in ends:
            values = {"X1": start[0], "Y1": start[1], "X2": stop[0], "Y2": stop[1]}
            line = {name: round(float(value), 4) for name, value in values.items()}
            lines.append({"FileName": f"{clip.stem}.avi", **line, "Frame": frame})
    return lines


class EchoNetPediatric(Layout):
    """A4C/ and PSAX/, each with FileList.csv, VolumeTracings.csv and Videos/."""

    name = "echonet-pediatric"
    views = ("A4C", "PSAX")

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        """Write one video; return its rows of both tables. Split is a fold: 0 to 7 train, 8 val, 9 test."""
        folder = root / clip.view / "Videos"
        folder.mkdir(parents=True, exist_ok=True)
        write_mjpeg(folder / f"{stem}.avi", clip.frames_THWC, clip.acquisition.frame_rate_hz)
        patient = clip.patient
        fold = {"train": patient.number % 8, "val": 8, "test": 9}[split]
        listed = {
            "FileName": f"{clip.stem}.avi",
            "EF": patient.ef_percent,
            "Sex": "FM"[patient.number % 2],
            "Age": patient.number % 18,
            "Weight": round(3.5 + 3.2 * (patient.number % 18), 1),
            "Height": round(50 + 7.0 * (patient.number % 18), 1),
            "Split": fold,
        }
        return {"view": clip.view, "listed": listed, "traced": _polygon(clip)}

    def finish(self, root: Path, rows: Sequence[Row]) -> None:
        """Write the tables of each view."""
        for view in sorted({row["view"] for row in rows}):
            mine = [row for row in rows if row["view"] == view]
            _write_csv(root / view / "FileList.csv", [row["listed"] for row in mine])
            _write_csv(root / view / "VolumeTracings.csv", [line for row in mine for line in row["traced"]])


def _polygon(clip: PhantomClip) -> list[Row]:
    lines = []
    for frame in reversed(clip.key_frames()):
        first, second = clip.outline_TSL2[frame]
        for x, y in np.concatenate([first, second[::-1]]):
            point = {"X": round(float(x), 4), "Y": round(float(y), 4)}
            lines.append({"FileName": f"{clip.stem}.avi", **point, "Frame": frame})
    return lines


def _write_csv(path: Path, lines: Sequence[Row], columns: Iterable[str] | None = None) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns or lines[0]))
        writer.writeheader()
        writer.writerows(lines)
