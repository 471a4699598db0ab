"""Layout: how a public set lies on the disk, with the files and tables of EchoNet-Dynamic, -Pediatric and CAMUS.

https://echonet.github.io/dynamic, https://echonet.github.io/pediatric, https://www.creatis.insa-lyon.fr/Challenge/camus
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from echofm.phantom.clip import PhantomClip
from echofm.phantom.overlay import with_overlay
from echofm.phantom.video import write_mjpeg

Row = dict[str, Any]

_SPLITS = {"train": "TRAIN", "val": "VAL", "test": "TEST"}
_CAMUS_VIEWS = {"A4C": "4CH", "A2C": "2CH"}
_CAMUS_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
_QUALITY = ("Good", "Medium", "Poor")


class Layout:
    """A public set's folders, files and tables.

    views: what it holds. other_views: whether others may be put into it. clips_per_patient: None any number.
    colour: whether it holds colour Doppler. size: pixels a side. overlay: whether text is burned in.
    """

    name: str
    views: tuple[str, ...]
    other_views = False
    clips_per_patient: int | None = None
    colour = True
    size = 112
    overlay = False

    def prepare(self, clip: PhantomClip) -> tuple[str, PhantomClip]:
        """The file's stem, and the clip as the file shows it; truth is kept for that."""
        return clip.stem, with_overlay(clip)

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        """Write one clip's files; return what the tables need. Runs in a worker."""
        raise NotImplementedError

    def finish(self, root: Path, rows: Sequence[Row]) -> None:
        """Write the tables, if there are any, rows in the order of patients and clips."""


class EchoNetDynamic(Layout):
    """FileList.csv, VolumeTracings.csv, Videos/STEM.avi. Unlike the real set, a patient may have several videos."""

    name = "echonet-dynamic"
    views = ("A4C",)
    other_views = True

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
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
        write_csv(root / "FileList.csv", [row["listed"] for row in rows])
        columns = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
        write_csv(root / "VolumeTracings.csv", [line for row in rows for line in row["traced"]], columns)


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
        for view in sorted({row["view"] for row in rows}):
            mine = [row for row in rows if row["view"] == view]
            write_csv(root / view / "FileList.csv", [row["listed"] for row in mine])
            write_csv(root / view / "VolumeTracings.csv", [line for row in mine for line in row["traced"]])


def _polygon(clip: PhantomClip) -> list[Row]:
    lines = []
    for frame in reversed(clip.key_frames()):
        first, second = clip.outline_TSL2[frame]
        for x, y in np.concatenate([first, second[::-1]]):
            point = {"X": round(float(x), 4), "Y": round(float(y), 4)}
            lines.append({"FileName": f"{clip.stem}.avi", **point, "Frame": frame})
    return lines


def write_csv(path: Path, lines: Sequence[Row], columns: Iterable[str] | None = None) -> None:
    """A table of these lines; columns: by default those of the first line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns or lines[0]))
        writer.writeheader()
        writer.writerows(lines)


class Camus(Layout):
    """database_nifti/patientNNNN/ with a sequence of each view from end-diastole to end-systole; no colour."""

    name = "camus"
    views = ("A4C", "A2C")
    clips_per_patient = 2
    colour = False
    size = 224

    def prepare(self, clip: PhantomClip) -> tuple[str, PhantomClip]:
        """The file's stem, and the frames from end-diastole to end-systole."""
        begin, end = clip.key_frames()
        return f"{_camus_folder(clip)}_{_CAMUS_VIEWS[clip.view]}_half_sequence", with_overlay(clip.part(begin, end + 1))

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        folder = root / "database_nifti" / _camus_folder(clip)
        folder.mkdir(parents=True, exist_ok=True)
        view = _CAMUS_VIEWS[clip.view]
        frames, masks = clip.frames_THWC[..., 0], clip.pixels.mask_THW
        spacing = clip.sector.spacing_mm
        prefix = stem.removesuffix("half_sequence")
        for name, part in (("half_sequence", slice(None)), ("ED", 0), ("ES", -1)):
            _write_nifti(folder / f"{prefix}{name}.nii.gz", frames[part], spacing)
            _write_nifti(folder / f"{prefix}{name}_gt.nii.gz", masks[part], spacing)
        patient = clip.patient
        info = {
            "ED": 1,
            "ES": len(frames),
            "NbFrame": len(frames),
            "Sex": "FM"[patient.number % 2],
            "Age": 30 + patient.number % 60,
            "ImageQuality": _QUALITY[int(np.clip((clip.acquisition.noise_db + 40) / 5, 0, 2))],
            "EF": round(patient.ef_percent),
            "FrameRate": round(clip.acquisition.frame_rate_hz, 1),
        }
        text = "".join(f"{key}: {value}\n" for key, value in info.items())
        (folder / f"Info_{view}.cfg").write_text(text, encoding="utf-8")
        return {"patient": _camus_folder(clip), "split": split}

    def finish(self, root: Path, rows: Sequence[Row]) -> None:
        folder = root / "database_split"
        folder.mkdir(exist_ok=True)
        for split, name in _CAMUS_SPLITS.items():
            patients = sorted({row["patient"] for row in rows if row["split"] == split})
            text = "".join(f"{patient}\n" for patient in patients)
            (folder / f"subgroup_{name}.txt").write_text(text, encoding="utf-8")


def _camus_folder(clip: PhantomClip) -> str:
    return f"patient{clip.patient.number + 1:04d}"


def _write_nifti(path: Path, image: npt.NDArray[np.uint8], spacing_mm: float) -> None:
    nib.save(nifti_of(image, (spacing_mm, spacing_mm)), path)


def nifti_of(image: npt.NDArray[np.uint8], spacing_mm: tuple[float, float]) -> nib.Nifti1Image:
    """Frames (H, W) or (T, H, W) as CAMUS has them: axes X, Y (and T). spacing_mm: (row, column)."""
    rows_mm, columns_mm = spacing_mm
    array = np.moveaxis(image, (-1, -2), (0, 1))
    file = nib.Nifti1Image(array, np.diag([columns_mm, rows_mm, 1, 1]), dtype=np.uint8)
    file.header.set_zooms((columns_mm, rows_mm, 1.0)[: array.ndim])
    return file
