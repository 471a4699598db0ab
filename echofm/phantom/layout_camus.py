"""The layout of CAMUS (https://www.creatis.insa-lyon.fr/Challenge/camus): NIfTI half sequences with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from echofm.phantom.clip import PhantomClip
from echofm.phantom.layout import Layout
from echofm.phantom.overlay import with_overlay

Row = dict[str, Any]

_VIEWS = {"A4C": "4CH", "A2C": "2CH"}
_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
_QUALITY = ("Good", "Medium", "Poor")


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
        return f"{_folder(clip)}_{_VIEWS[clip.view]}_half_sequence", with_overlay(clip.part(begin, end + 1))

    def write_clip(self, root: Path, stem: str, clip: PhantomClip, split: str) -> Row:
        """Write a view's sequence, its two key frames, their masks and the Info file."""
        folder = root / "database_nifti" / _folder(clip)
        folder.mkdir(parents=True, exist_ok=True)
        view = _VIEWS[clip.view]
        frames, masks = clip.frames_THWC[..., 0], clip.pixels.mask_THW
        spacing = clip.sector.spacing_mm
        prefix = stem.removesuffix("half_sequence")
        for name, part in (("half_sequence", slice(None)), ("ED", 0), ("ES", -1)):
            _write(folder / f"{prefix}{name}.nii.gz", frames[part], spacing)
            _write(folder / f"{prefix}{name}_gt.nii.gz", masks[part], spacing)
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
        return {"patient": _folder(clip), "split": split}

    def finish(self, root: Path, rows: Sequence[Row]) -> None:
        """Write the split files."""
        folder = root / "database_split"
        folder.mkdir(exist_ok=True)
        for split, name in _SPLITS.items():
            patients = sorted({row["patient"] for row in rows if row["split"] == split})
            text = "".join(f"{patient}\n" for patient in patients)
            (folder / f"subgroup_{name}.txt").write_text(text, encoding="utf-8")


def _folder(clip: PhantomClip) -> str:
    return f"patient{clip.patient.number + 1:04d}"


def _write(path: Path, image: npt.NDArray[np.uint8], spacing_mm: float) -> None:
    """Axes X, Y (and T), as the set has them."""
    array = np.moveaxis(image, (-1, -2), (0, 1))
    file = nib.Nifti1Image(array, np.diag([spacing_mm, spacing_mm, 1, 1]), dtype=np.uint8)
    file.header.set_zooms((spacing_mm, spacing_mm, 1.0)[: array.ndim])
    nib.save(file, path)
