"""Every public set's look-alike: found by looking, rows, splits, labels with units, quirks."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import lookalikes
import numpy as np
import pytest

from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.datasets import ADAPTERS, FolderSource, open_source
from echofm.readers.source import Row


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("sets")
    return {name: write(home / name) for name, write in lookalikes.ALL.items()}


def blank_clip(*, frames: int = lookalikes.LENGTH, size: int = 112) -> Clip:
    pixels = np.ones((frames, 1, size, size), np.uint8)
    return Clip(frames_TCHW=pixels, sector_HW=pixels[0, 0] > 0, clip_id="c", patient_id="p")


def rows_by_name(source: FolderSource) -> dict[str, Row]:
    return {str(row.path.relative_to(source.root)): row for row in source.rows()}


def annotated(row: Row, **size: int) -> tuple[Clip, list[int]]:
    assert row.add_truth is not None
    clip = row.add_truth(blank_clip(**size))
    assert clip.mask_THW is not None
    return clip, [index for index, mask in enumerate(clip.mask_THW) if (mask != 255).all()]


def test_every_adapter_has_a_look_alike() -> None:
    assert set(lookalikes.ALL) == {adapter.name for adapter in ADAPTERS}


@pytest.mark.parametrize("name", lookalikes.ALL)
def test_found_by_looking_sorted_and_the_same_again(sets: dict[str, Path], name: str) -> None:
    source = open_source(sets[name])
    assert source.name == name
    rows, notes = list(source.rows()), dict(source.notes)
    assert len(rows) >= 2
    assert [row.path for row in rows] == [row.path for row in source.rows()] and notes == source.notes
    assert len({row.path for row in rows}) == len(rows)
    assert all(row.path.is_file() and row.path.is_absolute() for row in rows)
    assert {row.split for row in rows} <= {"train", "val", "test", None}


@pytest.mark.parametrize("name", lookalikes.ALL)
def test_rows_travel_to_worker_processes(sets: dict[str, Path], name: str) -> None:
    rows = list(open_source(sets[name]).rows())
    again = pickle.loads(pickle.dumps(rows))  # noqa: S301, our own bytes
    assert [(row.path, row.patient, row.labels) for row in again] == [(r.path, r.patient, r.labels) for r in rows]


def test_echonet_dynamic(sets: dict[str, Path]) -> None:
    source = open_source(sets["echonet-dynamic"])
    rows = list(source.rows())
    assert [row.split for row in rows] == ["train", "train", "train", "val", "test"]
    assert dict(rows[0].labels) == {"ef_percent": 40.5, "edv_ml": 100.0, "esv_ml": 50.0}
    assert {row.view for row in rows} == {"A4C"}
    assert len({row.patient for row in rows}) == 5
    assert dict(source.notes) == {
        "videos in FileList.csv that are not in Videos/": 1,
        "videos in Videos/ that FileList.csv does not name (left out)": 1,
    }
    assert rows[2].add_truth is None, "a video without tracings"


def test_echonet_dynamic_traces_become_masks(sets: dict[str, Path]) -> None:
    row = next(open_source(sets["echonet-dynamic"]).rows())
    clip, frames = annotated(row)
    assert frames == [2, 7]
    expected = np.zeros((112, 112), bool)
    expected[40:81, 45:66] = True
    assert ((clip.mask_THW[2] == 1) == expected).all(), "the rectangle, without the long axis of the first row"
    assert clip.phase_T is None, "no phase is invented"
    cut, frames = annotated(row, frames=5)
    assert frames == [2] and len(cut.mask_THW) == 5, "a cut download has no frame 7"


def test_echonet_dynamic_traces_outside_the_picture_are_clipped(tmp_path: Path) -> None:
    root = lookalikes.echonet_dynamic(tmp_path / "d")
    lines = lookalikes.chords("0X0000000000000000.avi", 3, top=-20, bottom=400, left=-9, right=300)
    (root / "VolumeTracings.csv").write_text("\n".join(["FileName,X1,Y1,X2,Y2,Frame", *lines]))
    clip, frames = annotated(next(open_source(root).rows()))
    assert frames == [3] and (clip.mask_THW[3] == 1).all()


def test_echonet_synthetic_is_all_train(sets: dict[str, Path]) -> None:
    rows = list(open_source(sets["echonet-synthetic"]).rows())
    assert [row.path.name for row in rows] == [f"sample_{index:06d}.avi" for index in range(3)]
    assert {row.split for row in rows} == {"train"} and {row.add_truth for row in rows} == {None}


def test_echonet_pediatric(sets: dict[str, Path]) -> None:
    source = open_source(sets["echonet-pediatric"])
    rows = rows_by_name(source)
    first = rows["A4C/Videos/CR1000-CR1-000001.avi"]
    assert dict(first.labels) == {
        "ef_percent": 60.25,
        "age_years": 0.0,
        "weight_kg": 10.5,
        "height_cm": 100.0,
        "fold": 0,
        "sex": "F",
    }
    # One patient's two accessions and two views are one patient.
    assert len({row.patient for name, row in rows.items() if "CR1000" in name}) == 1
    assert len({row.patient for row in rows.values()}) == 3
    assert [row.split for row in rows.values()] == ["train", "train", "val", "test"] * 2
    assert [row.view for row in rows.values()] == ["A4C"] * 4 + ["PSAX"] * 4
    assert "age_years" not in rows["PSAX/Videos/CR3000-CR4-000004.avi"].labels
    assert source.notes["rows of VolumeTracings.csv with a cell that is no number"] == 2
    clip, frames = annotated(first)
    assert frames == [3] and (clip.mask_THW[3] == 1).sum() == 31 * 41


def test_echonet_pediatric_one_view_alone(sets: dict[str, Path]) -> None:
    source = open_source(sets["echonet-pediatric"] / "PSAX")
    assert source.name == "echonet-pediatric" and [row.view for row in source.rows()] == ["PSAX"] * 4


def test_echonet_lvh(sets: dict[str, Path]) -> None:
    source = open_source(sets["echonet-lvh"])
    rows = rows_by_name(source)
    assert list(rows) == ["Batch1/0XAB1.avi", "Batch2/0XAB2.avi", "Batch3/0XAB3.avi"]
    # Two values of one measurement are averaged.
    assert dict(rows["Batch1/0XAB1.avi"].labels) == {
        "ivsd_cm": 1.1,
        "lvidd_cm": 4.5,
        "lvids_cm": 3.0,
        "lvpwd_cm": 0.9,
    }
    assert [row.split for row in rows.values()] == ["train", "train", "val"]
    assert source.notes["videos in MeasurementsList.csv that are in no Batch folder"] == 1


def test_camus(sets: dict[str, Path]) -> None:
    rows = rows_by_name(open_source(sets["camus"]))
    assert [row.view for row in rows.values()] == ["A2C", "A4C"] * 3
    assert [row.split for row in rows.values()] == ["train", "train", "val", "val", "test", "test"]
    names = list(rows)
    assert dict(rows[names[0]].labels) == {
        "ef_percent": 51.0,
        "age_years": 51.0,
        "sex": "M",
        "image_quality": "good",
    }
    truth_THW = lookalikes.ellipse_mask(lookalikes.LENGTH, 112)
    whole, frames = annotated(rows[names[0]])
    assert frames == list(range(lookalikes.LENGTH)) and (whole.mask_THW == truth_THW).all()
    assert whole.frame_rate_hz == pytest.approx(45.5), "from the cfg: NIfTI says nothing"
    # The second patient's end-diastole is the last frame.
    two, frames = annotated(rows[names[2]])
    assert frames == [0, lookalikes.LENGTH - 1]
    assert (two.mask_THW[[0, -1]] == truth_THW[[0, -1]]).all()


def test_camus_given_as_its_inner_folder(sets: dict[str, Path]) -> None:
    rows = list(open_source(sets["camus"] / "database_nifti").rows())
    assert [row.split for row in rows] == ["train", "train", "val", "val", "test", "test"]


def test_camus_mask_that_does_not_fit_is_set_aside(sets: dict[str, Path]) -> None:
    row = next(open_source(sets["camus"]).rows())
    assert row.add_truth is not None
    with pytest.raises(UnreadableFile, match="another size") as caught:
        row.add_truth(blank_clip(frames=3))
    assert "patient" not in str(caught.value)


def test_camus_damaged_mask_is_set_aside(tmp_path: Path) -> None:
    root = lookalikes.camus(tmp_path / "camus")
    row = next(open_source(root).rows())
    mask = next(root.rglob("patient0001_2CH_half_sequence_gt.nii.gz"))
    mask.write_bytes(mask.read_bytes()[:200])
    assert row.add_truth is not None
    with pytest.raises(UnreadableFile, match="this mask cannot be read"):
        row.add_truth(blank_clip())


def test_camus_older_release(tmp_path: Path) -> None:
    rows = rows_by_name(open_source(lookalikes.camus_mhd(tmp_path / "camus")))
    assert next(iter(rows)) == "training/patient0001/patient0001_2CH_sequence.mhd"
    first, *_, last = rows.values()
    assert first.labels["ef_percent"] == 54.4 and first.labels["edv_ml"] == 110.1 and first.labels["esv_ml"] == 50.2
    assert "ef_percent" not in last.labels, "the older release keeps the testing patients' values to itself"
    clip, frames = annotated(first)
    assert frames == [0, lookalikes.LENGTH - 1]
    assert (clip.mask_THW[0] == lookalikes.ellipse_mask(1, 112)[0]).all()
    assert last.add_truth is not None and last.add_truth(blank_clip()).mask_THW is None


def test_tmed2(sets: dict[str, Path]) -> None:
    source = open_source(sets["tmed-2"])
    rows = {row.path.name: row for row in source.rows()}
    assert list(rows) == ["1009s2_12.png", "1009s2_13.png", "2010s1_3.png", "3011s1_1.png", "4012s1_1.png"]
    assert {row.kind for row in rows.values()} == {"still"}
    assert [row.view for row in rows.values()] == ["PLAX", None, "PSAX", "A4C", None]
    assert [row.split for row in rows.values()] == ["train", "train", "val", "test", None]
    assert [row.labels.get("aortic_stenosis") for row in rows.values()] == [
        "severe_as",
        "severe_as",
        "no_as",
        None,
        None,
    ]
    assert rows["1009s2_12.png"].patient == rows["1009s2_13.png"].patient != rows["4012s1_1.png"].patient
    assert rows["1009s2_12.png"].study == rows["1009s2_13.png"].study == "s2" and rows["2010s1_3.png"].study == "s1"
    assert source.notes["images in labels_per_image.csv that are not in the folder"] == 1


def test_mimic(sets: dict[str, Path]) -> None:
    source = open_source(sets["mimic-iv-echo"])
    first, second = source.rows()
    assert dict(first.labels) == {"ef_percent": 55.0, "lvidd_cm": 4.7, "sex": "F"}
    assert dict(second.labels) == {}, "`>55` is no number"
    assert first.kind is None and first.split is None and first.patient != second.patient
    assert (first.study, second.study) == ("94106955", "96000000")
    assert dict(source.notes) == {
        "files in echo-record-list.csv that were not downloaded": 3,
        "values of ivsd_cm in another unit (left out)": 1,
        "cells of ef_percent that hold no number": 1,
    }


def test_mimic_without_the_measurements(tmp_path: Path, sets: dict[str, Path]) -> None:
    root = shutil.copytree(sets["mimic-iv-echo"], tmp_path / "m")
    (root / "structured-measurement.csv.gz").unlink()
    source = open_source(root)
    assert [dict(row.labels) for row in source.rows()] == [{}, {}]
    assert any("no labels" in note for note in source.notes)


def test_mimic_path_that_leaves_the_folder_is_no_path(tmp_path: Path, sets: dict[str, Path]) -> None:
    root = shutil.copytree(sets["mimic-iv-echo"], tmp_path / "m")
    with open(root / "echo-record-list.csv", "a") as table:
        table.write("1,1,now,../../../../etc/passwd\n")
    source = open_source(root)
    assert len(list(source.rows())) == 2
    assert source.notes["lines of echo-record-list.csv whose path is not as the set writes them"] == 1


def test_cardiacnet(sets: dict[str, Path]) -> None:
    rows = rows_by_name(open_source(sets["cardiacnet"]))
    assert "CardiacNet-ASD/ASD/002_image.nii/002_image.nii" in rows, "the folder that unpacking left"
    assert [dict(row.labels) for row in rows.values()] == [
        {"pulmonary_hypertension": "yes"},
        {"pulmonary_hypertension": "no"},
        {"atrial_septal_defect": "yes"},
        {"atrial_septal_defect": "no"},
    ]
    # Case 001 is another patient in each group.
    assert len({row.patient for row in rows.values()}) == 4
    first, *_, last = rows.values()
    clip, frames = annotated(first)
    assert frames == [4], "a frame without a label was not annotated"
    counts = {value: int((clip.mask_THW[4] == value).sum()) for value in (1, 2, 3)}
    assert counts == {1: 200, 2: 0, 3: 100}, "the right ventricle is no class of ours"
    assert last.add_truth is None


def test_a_set_may_be_forced(sets: dict[str, Path]) -> None:
    as_folder = open_source(sets["echonet-dynamic"], dataset="folder")
    assert len(list(as_folder.rows())) == 6 and as_folder.name == "folder"
    with pytest.raises(EchofmError, match=r"MeasurementsList\.csv cannot be read"):
        list(open_source(sets["echonet-dynamic"], dataset="echonet-lvh").rows())
    with pytest.raises(EchofmError, match="known are echonet-synthetic"):
        open_source(sets["echonet-dynamic"], dataset="echonet")
    with pytest.raises(EchofmError, match="patient-from is for plain folders"):
        open_source(sets["echonet-dynamic"], patient_from="parent")
