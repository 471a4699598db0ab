"""A set of generated frames in CAMUS' layout: image, label map and prompt of each, with where it comes from.

database_nifti/patientNNNN/ with a sequence of two frames (end-diastole, end-systole), each frame and its map apart, and
Info_{2CH,4CH}.cfg without what nobody knows of a heart that does not exist. H rows, W columns.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from echofm.atomic import whole_files, write_whole
from echofm.errors import EchofmError
from echofm.phantom.layout import nifti_of
from synth.generator.map_plan import MapPlan
from synth.generator.model import Generator
from synth.generator.sample_set import How, SyntheticSet
from synth.maps.pairs import annotated
from synth.set_folder import PROVENANCE
from synth.text.grammar import facets_of
from synth.text.prompt import TIME_POINTS

HOME, SPLIT = "database_nifti", "database_split"
# Beyond those of the real set, so that nobody takes one for the other: ids are hashes of these names.
_FIRST_PATIENT = 9001
_VIEWS = {"A4C": "4CH", "A2C": "2CH"}


class CamusSet(SyntheticSet):
    """As SyntheticSet; a number is a heart in one view."""

    home = HOME
    per_number = len(TIME_POINTS)

    def __init__(
        self, out: Path, generator: Generator, plan: MapPlan, how: How, *, settings: Mapping[str, Any]
    ) -> None:
        if foreign := [view for view in plan.views if view not in _VIEWS]:
            raise EchofmError(f"CAMUS' layout has no view {foreign[0]}; its views are {', '.join(_VIEWS)}")
        self._maps = plan
        super().__init__(out, generator, plan, how, settings=settings)

    def path(self, number: int) -> Path:
        return self._file(number, "half_sequence.nii.gz")

    def drop_others(self, numbers: Sequence[int]) -> None:
        keep = {self.path(number) for number in numbers}
        for path in set((self.out / HOME).glob("*/*_half_sequence.nii.gz")) - keep:
            stem = path.name.removesuffix("half_sequence.nii.gz")
            view = stem.rstrip("_").rpartition("_")[2]
            for file in (*path.parent.glob(f"{stem}*"), path.parent / f"Info_{view}.cfg"):
                file.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()

    def close(self, numbers: Sequence[int]) -> None:
        lines = [self.provenance(number) for number in numbers]
        write_whole(self.out / PROVENANCE, "".join(f"{json.dumps(line)}\n" for line in lines))
        (self.out / SPLIT).mkdir(exist_ok=True)
        patients = sorted({self._patient(number) for number in numbers})
        for name, own in (("training", patients), ("validation", []), ("testing", [])):
            write_whole(self.out / SPLIT / f"subgroup_{name}.txt", "".join(f"{patient}\n" for patient in own))

    def provenance(self, number: int) -> dict[str, Any]:
        return {
            "file": self.path(number).relative_to(self.out).as_posix(),
            "number": number,
            "draw": int(self._maps.draw_B([number])[0]),
            **self._maps.about(number),
        }

    def beside_maps(self, number: int) -> npt.NDArray[np.uint8]:
        """End-diastole, its map, end-systole, its map: (4, H, W), maps in shades of grey."""
        frames_XYT = np.asanyarray(nib.Nifti1Image.from_filename(self.path(number)).dataobj)
        pair, frames_THW = self._maps.pair(number), np.moveaxis(frames_XYT, (0, 1), (2, 1))
        maps_THW = 85 * np.stack([annotated(pair.ed_HW), annotated(pair.es_HW)])
        return np.stack([frames_THW[0], maps_THW[0], frames_THW[1], maps_THW[1]])

    def _patient(self, number: int) -> str:
        return f"patient{_FIRST_PATIENT + number // len(self._maps.views):04d}"

    def _file(self, number: int, name: str) -> Path:
        patient, view = self._patient(number), _VIEWS[self._maps.views[number % len(self._maps.views)]]
        return self.out / HOME / patient / f"{patient}_{view}_{name}"

    def _write_one(self, number: int, frames_THW: npt.NDArray[np.uint8]) -> None:
        pair = self._maps.pair(number)
        maps_THW = np.stack([annotated(pair.ed_HW), annotated(pair.es_HW)])
        named: dict[str, Any] = {"half_sequence": slice(None), "ED": 0, "ES": 1}
        info = self.path(number).parent / f"Info_{_VIEWS[pair.view or '']}.cfg"
        files: dict[Path, npt.NDArray[np.uint8]] = {
            self._file(number, f"{name}{kind}.nii.gz"): arrays[part]
            for name, part in named.items()
            for kind, arrays in (("_gt", maps_THW), ("", frames_THW))
        }
        # The sequence last: by it a number is known to be there.
        order = sorted(files, key=lambda path: path == self.path(number))
        with whole_files([info, *order]) as (part, *parts):
            part.write_text(self._info(number), encoding="utf-8")
            for path, temporary in zip(order, parts):
                file = nifti_of(files[path], pair.spacing_mm or (1.0, 1.0))
                temporary.write_bytes(gzip.compress(file.to_bytes(), mtime=0))

    def _info(self, number: int) -> str:
        lines = {"ED": "1", "ES": "2", "NbFrame": "2"}
        if quality := facets_of(self._maps.prompts(number)[0]).get("image quality"):
            lines["ImageQuality"] = str(quality).title()
        return "".join(f"{key}: {value}\n" for key, value in lines.items())
