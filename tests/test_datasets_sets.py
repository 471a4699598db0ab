"""Every public set's look-alike: found by looking, rows, splits, labels with units, quirks."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import lookalikes
import numpy as np
import pandas as pd
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


def test_echonet_synthetic_has_three_sets_of_the_same_names(sets: dict[str, Path]) -> None:
    source = open_source(sets["echonet-synthetic"])
    rows = list(source.rows())
    assert [(row.path.parent.parent.name, row.view, row.split) for row in rows] == [
        ("dynamic", "A4C", "train"),
        ("dynamic", "A4C", "val"),
        ("dynamic", "A4C", "test"),
        ("dynamic", "A4C", "train"),
        ("ped_a4c", "A4C", "train"),
        ("ped_a4c", "A4C", "train"),
        ("ped_psax", "PSAX", "train"),
        ("ped_psax", "PSAX", "test"),
        ("ped_psax", "PSAX", "train"),
    ], "EXTRA is of no real split, and generated to train on"
    assert len({row.patient for row in rows}) == 9 and {row.add_truth for row in rows} == {None}
    assert [dict(row.labels) for row in rows[:2]] == [{"ef_percent": 50.0}, {"ef_percent": 51.0}], "no volume of 0 ml"
    assert source.notes["videos of the split EXTRA in FileList.csv, which count as train"] == 3
    one = {row.path: row for row in open_source(sets["echonet-synthetic"] / "ped_psax").rows()}
    assert one == {row.path: row for row in rows[6:]}, "a set alone is as it is among the three"


def test_a_generators_output_counts_each_sample_once(tmp_path: Path) -> None:
    for name in ("avi", "mp4", "gif"):
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"sample_{index:06d}.{name}").write_bytes(b"RIFF")
    (tmp_path / "jpg" / "sample_000000").mkdir(parents=True)
    (tmp_path / "jpg" / "sample_000000" / "0000.jpg").write_bytes(b"JPEG")
    lines = [f"sample_{index:06d},{50 + index},0,0,112,112,50,16,TRAIN" for index in range(3)]
    head = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
    (tmp_path / "FileList.csv").write_text("\n".join([head, *lines]))
    source = open_source(tmp_path)
    assert [(row.path.name, dict(row.labels), row.view) for row in source.rows()] == [
        ("sample_000000.avi", {"ef_percent": 50.0}, None),
        ("sample_000001.avi", {"ef_percent": 51.0}, None),
    ]
    assert source.name == "echonet-synthetic" and source.notes["videos in FileList.csv that are not in Videos/"] == 1


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
    assert dict(first.labels) == {"ef_percent": 55.0, "ef_method": "one_value", "lvidd_cm": 4.7, "sex": "F"}
    assert dict(second.labels) == {}, "`>55` is no number"
    assert first.kind is None and first.split is None and first.patient != second.patient
    assert (first.study, second.study) == ("94106955", "96000000")
    assert dict(source.notes) == {
        "files in echo-record-list.csv that were not downloaded": 3,
        "values of ivsd_cm in another unit (left out)": 1,
        "cells of ef_percent that hold no number": 1,
        "studies of echo-study-list.csv without a measurement_id (no labels)": 1,
    }


def mimic_with(root: Path, *values: str, studies: str | None = None) -> FolderSource:
    head = "subject_id,measurement_id,measurement_datetime,test_type,measurement,measurement_description,result,unit\n"
    lookalikes.mimic(root)
    lines = (f"10002221,3000001,2111-11-11,tte,{value.replace('=', ',,', 1)}\n" for value in values)
    (root / "structured-measurement.csv.gz").unlink()
    (root / "structured-measurement.csv").write_text(head + "".join(lines))
    if studies is not None:
        (root / "echo-study-list.csv").write_text(studies)
    return open_source(root)


@pytest.mark.parametrize(
    ("values", "ef", "method"),
    [
        ("lvef=50,% lvef_upper=55,%", 52.5, "middle_of_range"),
        ("lvef_upper=75,% lvef=70,%", 72.5, "middle_of_range"),
        ("lvef=40,% lvef_upper=45,% lvef_3d=49,% biplane_lvef=47,%", 47, "biplane"),
        ("lvef=40,% lvef_upper=45,% lvef_3d=49,%", 49, "3d"),
        ("lvef=60,percent", 60, "one_value"),
        ("lvef=55,% lvef_upper=100,%", None, None),
        ("lvef_upper=55,%", None, None),
        ("lvef=.5,fraction", None, None),
    ],
)
def test_mimics_ejection_fraction(tmp_path: Path, values: str, ef: float | None, method: str | None) -> None:
    first, _ = mimic_with(tmp_path / "m", *values.split()).rows()
    assert (first.labels.get("ef_percent"), first.labels.get("ef_method")) == (ef, method)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ('aortic_stenosis="None, incr vel high output",', {"aortic_stenosis": "no_as"}),
        ("aortic_stenosis=Mild-mod,", {"aortic_stenosis": "mildtomod_as"}),
        ("aortic_stenosis=Mod-severe,", {"aortic_stenosis": "modtosevere_as"}),
        ("mitral_regurg=Trivial,", {"mitral_regurgitation": "trace"}),
        ("mitral_regurg=Moderate to severe,", {"mitral_regurgitation": "moderate_severe"}),
        ("tricuspid_regurg=Torrential,", {"tricuspid_regurgitation": "severe"}),
        ("rv_function=Moderate global RV hypokinesis,", {"rv_dysfunction": "moderate"}),
        ("rv_function=RV not well seen,", {}),
        ("phtn_severity=Mod (TR 37-60mmHg),", {"pulmonary_hypertension_grade": "moderate"}),
        ("tapse=18,cm", {"tapse_mm": 18.0}),
        ("tapse=1.8,cm", {"tapse_mm": 18.0}),
        ("tapse=4.7,cm", {}),
    ],
)
def test_mimics_graded_words_and_mixed_units(tmp_path: Path, value: str, labels: dict[str, object]) -> None:
    source = mimic_with(tmp_path / "m", value)
    first, _ = source.rows()
    assert dict(first.labels) == labels
    assert bool(labels) or any(note.endswith(("known grade", "(left out)")) for note in source.notes)


def test_mimics_older_study_list_and_mirrors(tmp_path: Path) -> None:
    old = "subject_id,study_id,study_datetime,note_id\n10002221,94106955,2111,\n10010000,96000000,2113,\n"
    source = mimic_with(tmp_path / "m", "lvef=50,%", studies=old)
    assert [dict(row.labels) for row in source.rows()] == [{}, {}]
    assert source.notes["studies of echo-study-list.csv without a measurement_id (no labels)"] == 2
    mirror = lookalikes.mimic(tmp_path / "mirror")
    with_files = {row.path.name: row.patient for row in open_source(mirror).rows()}
    for part in (mirror / "files").iterdir():
        part.rename(mirror / part.name)
    (mirror / "files").rmdir()
    assert {row.path.name: row.patient for row in open_source(mirror).rows()} == with_files != {}


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
    clip, _ = annotated(first)
    counts = {value: int((clip.mask_THW[4] == value).sum()) for value in (1, 2, 3, 255)}
    assert counts == {1: 200, 2: 0, 3: 0, 255: 300}, "of the other chambers nobody is sure which is which"
    assert (clip.mask_THW[[0, 5]] == 255).all(), "a frame without a label was not annotated"
    assert last.add_truth is None


def test_cardiacnets_controls_of_both_halves_are_one_patient(tmp_path: Path) -> None:
    halves = {"PAH": tmp_path / "CardiacNet-PAH" / "Non-PAH", "ASD": tmp_path / "CardiacNet-ASD" / "Non-ASD"}
    for half, number, seed in (("PAH", 1, 1), ("ASD", 31, 1), ("PAH", 2, 2), ("ASD", 32, 3)):
        home = halves[half] / f"{number:03d}_image.nii"
        home.mkdir(parents=True)
        lookalikes.write_nifti(home / f"PHI{number % 30:02d}.nii", lookalikes.heart(seed))
    source = open_source(tmp_path)
    rows = rows_by_name(source)
    both = {"pulmonary_hypertension": "no", "atrial_septal_defect": "no"}
    assert [dict(row.labels) for row in rows.values()] == [both, *({name: "no"} for name in both)], "a copy, once"
    assert [row.patient for row in rows.values()] == [f"cardiacnet/control/PHI{n:02d}" for n in (1, 2, 2)]
    assert source.notes["images that stand in both halves, read once with both labels"] == 1


@pytest.mark.parametrize("name", ["hmcqu", "tmed2", "echophase"])
def test_a_sets_own_tables_are_no_files_passed_over(tmp_path: Path, name: str) -> None:
    root = getattr(lookalikes, name)(tmp_path / "set")
    source = open_source(root)
    assert list(source.rows()) and not {".csv", ".xlsx"} & set(source.unread)


def test_hmcqu(sets: dict[str, Path]) -> None:
    source = open_source(sets["hmc-qu"])
    rows = {row.path.stem: row for row in source.rows()}
    assert {stem: (row.patient, row.view, row.labels.get("myocardial_infarction")) for stem, row in rows.items()} == {
        "ES0001_CH2_1": ("hmc-qu/ES0001", "A2C", "yes"),
        "ES00051 N_CH2_1": ("hmc-qu/ES00051", "A2C", "no"),
        "ES0001 _4CH_1": ("hmc-qu/ES0001", "A4C", "yes"),
        "ES000155 n_4CH_1": ("hmc-qu/ES000155", "A4C", "no"),
        "ES00030_4CH_1": ("hmc-qu/ES00030", "A4C", None),
    }
    assert source.notes["videos of A4C.csv with a segment that is neither MI nor non-MI"] == 1


def test_hmcqus_own_workbooks(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    root = lookalikes.hmcqu(tmp_path / "HMC_QU")
    expected = {row.path: dict(row.labels) for row in open_source(root).rows()}
    for view in ("A2C", "A4C"):
        pd.read_csv(root / f"{view}.csv").to_excel(root / f"{view}.xlsx", index=False)
        (root / f"{view}.csv").unlink()
    assert {row.path: dict(row.labels) for row in open_source(root).rows()} == expected
    (root / "A4C.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(EchofmError, match=r"A4C\.xlsx is no readable table"):
        list(open_source(root).rows())


def test_segrwma(sets: dict[str, Path]) -> None:
    source = open_source(sets["segrwma"])
    assert [(row.patient, row.view, row.split, dict(row.labels), row.add_truth) for row in source.rows()] == [
        ("segrwma/patient1", "A2C", "train", {"wall_motion_abnormality": "yes"}, None),
        ("segrwma/patient12", "A3C", "test", {"wall_motion_abnormality": "yes"}, None),
    ]
    assert source.notes["contrast cines, LVO and MCE (left out)"] == 1


def test_cardiacuda(sets: dict[str, Path]) -> None:
    source = open_source(sets["cardiacuda"])
    rows = rows_by_name(source)
    assert {name: (row.patient.removeprefix("cardiacuda/"), row.view) for name, row in rows.items()} == {
        "Site_G_100/patient1-2_image.nii.gz": ("site_g_100/patient1", None),
        "Site_G_100/patient1-4_image.nii.gz": ("site_g_100/patient1", "A4C"),
        "Site_R_52/patient1-4_image.nii.gz": ("site_r_52/patient1", "A4C"),
    }
    clip, frames = annotated(rows["Site_G_100/patient1-4_image.nii.gz"])
    assert frames == [5], "the frames without a line were not annotated"
    expected = np.zeros((112, 112), np.uint8)
    # The line of the ventricle has a gap, which is closed.
    expected[30:51, 30:51], expected[70:91, 30:51] = 1, 3
    wrong = clip.mask_THW[5] != expected
    assert wrong.sum() <= 4 and not wrong[60:].any()
    assert rows["Site_G_100/patient1-2_image.nii.gz"].add_truth is None
    assert any("label_all_frame" in note and count == 1 for note, count in source.notes.items())
    alone = open_source(sets["cardiacuda"] / "label_all_frame")
    (row,) = alone.rows()
    dense, _ = row.add_truth(blank_clip()), None
    assert (dense.mask_THW[5, 30:51, 30:51] == 1).sum() > 430 and set(np.unique(dense.mask_THW[5])) == {0, 1, 255}


def test_unity_echophase(sets: dict[str, Path]) -> None:
    source = open_source(sets["unity-echophase"])
    rows = list(source.rows())
    assert [(row.patient, row.split, row.view) for row in rows] == [
        ("unity-echophase/video2", "test", "A4C"),
        ("unity-echophase/video0", "train", "A4C"),
        ("unity-echophase/video1", "train", "A4C"),
    ]
    assert not any(row.add_truth for row in rows) and any("not documented" in note for note in source.notes)


def test_a_set_may_be_forced(sets: dict[str, Path]) -> None:
    as_folder = open_source(sets["echonet-dynamic"], dataset="folder")
    assert len(list(as_folder.rows())) == 6 and as_folder.name == "folder"
    with pytest.raises(EchofmError, match=r"MeasurementsList\.csv cannot be read"):
        list(open_source(sets["echonet-dynamic"], dataset="echonet-lvh").rows())
    with pytest.raises(EchofmError, match="known are echonet-synthetic"):
        open_source(sets["echonet-dynamic"], dataset="echonet")
    with pytest.raises(EchofmError, match="patient-from is for plain folders"):
        open_source(sets["echonet-dynamic"], patient_from="parent")
