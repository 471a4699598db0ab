"""The phantom's answers are recovered from its frames and masks, and its bytes depend on the seed alone."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from simpson import biplane_volume_ml, single_plane_volume_ml

from echofm.errors import EchofmError
from echofm.phantom import generate, render_clip
from echofm.phantom.anatomy import draw_patient


def simpson_ef_percent(number: int, view: str) -> tuple[float, float]:
    """(nominal, measured on the masks)."""
    clip = render_clip(number, view=view, frames=None)
    volumes = [single_plane_volume_ml(clip.pixels.mask_THW[f], clip.sector.spacing_mm) for f in clip.key_frames()]
    return clip.patient.ef_percent, 100 * (1 - volumes[1] / volumes[0])


def check_biplane_volumes(number: int) -> None:
    clips = [render_clip(number, clip=i, view=view) for i, view in enumerate(("A4C", "A2C"))]
    spacings = (clips[0].sector.spacing_mm, clips[1].sector.spacing_mm)
    frames = [clip.key_frames() for clip in clips]
    masks = [clip.pixels.mask_THW for clip in clips]
    edv, esv = (biplane_volume_ml(masks[0][frames[0][i]], masks[1][frames[1][i]], spacings) for i in (0, 1))
    patient = clips[0].patient
    assert 100 * (1 - esv / edv) == pytest.approx(patient.ef_percent, abs=2)
    assert edv == pytest.approx(patient.edv_ml, rel=0.05)
    assert esv == pytest.approx(patient.esv_ml, rel=0.07)


@pytest.mark.parametrize("number", [0, 7])
def test_biplane_discs_on_the_masks_give_the_nominal_volumes(number: int) -> None:
    check_biplane_volumes(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20, 50))
def test_biplane_discs_over_many_patients(number: int) -> None:
    check_biplane_volumes(number)


def tree_digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_for_one_process_and_two(tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        generate(tmp_path / name, patients=2, frames=6, processes=processes, seed=5)
    one = tree_digest(tmp_path / "one")
    assert one == tree_digest(tmp_path / "two")
    assert {"phantom.json", "FileList.csv", "VolumeTracings.csv", "truth/clips.csv"} < set(one)
    assert len(one) == 4 + 2 * 4


def test_echonet_dynamic_tables(tmp_path: Path) -> None:
    generate(tmp_path / "d", patients=1, frames=40, processes=1)
    with (tmp_path / "d" / "FileList.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert " ".join(listed[0]) == "FileName EF ESV EDV FrameHeight FrameWidth FPS NumberOfFrames Split"
    with (tmp_path / "d" / "VolumeTracings.csv").open() as file:
        traced = [row for row in csv.DictReader(file) if row["FileName"] == listed[0]["FileName"] + ".avi"]
    frames = list(dict.fromkeys(row["Frame"] for row in traced))
    assert len(traced) == 42 and len(frames) == 2
    truth = np.load(tmp_path / "d" / "truth" / f"{listed[0]['FileName']}.npz", allow_pickle=False)
    assert int(frames[1]) == int(truth["ed_frame"]), "end-diastole is listed last"


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(EchofmError, match="holds something"):
        generate(tmp_path, patients=1)


def test_every_patient_s_mitral_valve_can_close() -> None:
    # Patient 320 of seed 0 once drew leaflets shorter together than the annulus, and ended the whole command.
    patients = [draw_patient(seed, number) for seed in (0, 1) for number in range(1000)]
    assert min(each.anterior_leaflet + each.posterior_leaflet for each in patients) > 1
