"""Who the patients of a plain folder are: what is known, what nobody can know, and the ways out."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import lookalikes
import pydicom
import pytest
from hearts import write_avi

from echofm.check.cli import main as check_main
from echofm.contract import InputContract
from echofm.embed.videos import open_videos
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.readers.datasets import open_source
from echofm.readers.options import ReadOptions
from echofm.readers.patients import Doubts, is_placeholder
from echofm.readers.read import read_clip, read_row
from echofm.readers.source import Row
from echofm.shards.manifest import Manifest, read_manifest
from echofm.shards.splits import stratified
from echofm.shards.write import write_shards


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"RIFF")
    return root


def dicom(path: Path, *, patient: str, study: str, seed: int) -> Path:
    lookalikes.write_dicom(path, lookalikes.heart(seed), patient=patient)
    data = pydicom.dcmread(path)
    data.StudyInstanceUID = study
    if not patient:
        del data.PatientID
    data.save_as(path)
    return path


TREES = {
    "MRN, date, file": ["100/d1/IMG_1.avi", "100/d2/IMG_1.avi", "200/d1/IMG_1.avi"],
    "a folder a patient, unique names": ["p1/c17.avi", "p1/c23.avi", "p2/c99.avi"],
    "a file a folder, names repeated": ["p1/clip.nii.gz", "p2/clip.nii.gz"],
    "folders by view": ["A4C/one.mp4", "A4C/two.mp4", "A2C/three.mp4"],
    "deep": ["x/y/1/a.mhd", "x/y/1/b.mhd", "x/y/2/c.mhd"],
}
KNOWN = {
    "one folder": ["a.avi", "b.avi"],
    "one folder further down": ["x/y/a.avi", "x/y/b.avi"],
    "a file a folder, unique names": ["p1/a.avi", "p2/b.avi"],
    "DICOM, which has tags": ["p1/IM_1.dcm", "p1/IM_2.dcm", "p2/IM_1"],
    "stills beside cines": ["a.avi", "b.avi", "pictures/1.png", "pictures/2.png", "more/1.png"],
}


@pytest.mark.parametrize("names", TREES.values(), ids=TREES)
def test_a_tree_that_does_not_tell_is_refused_with_the_ways_out(tmp_path: Path, names: list[str]) -> None:
    source = open_source(touch(tmp_path / "Jane_Doe", *names))
    with pytest.raises(
        EchofmError, match=r"the patients are not known: .*--patient-from parent .*top .*stem .*manifest"
    ) as caught:
        list(source.rows())
    assert "Jane" not in str(caught.value) and "IMG" not in str(caught.value)
    assert len(list(source.rows(doubtful=True))) == len(names)
    for rule in ("parent", "top", "stem", "dicom"):
        assert len(list(open_source(tmp_path / "Jane_Doe", patient_from=rule).rows())) == len(names)
    lines = "".join(f"{name},{name[0]}\n" for name in names)
    (tmp_path / "Jane_Doe" / "manifest.csv").write_text("path,patient\n" + lines)
    assert len(list(open_source(tmp_path / "Jane_Doe").rows())) == len(names)


@pytest.mark.parametrize("names", KNOWN.values(), ids=KNOWN)
def test_what_tells_the_patients_is_not_doubted(tmp_path: Path, names: list[str]) -> None:
    root = touch(tmp_path, *names)
    for path in root.rglob("IM_1"):
        path.write_bytes(b"\0" * 128 + b"DICM")
    assert len(list(open_source(root).rows())) == len(names)


def test_a_manifest_that_leaves_patients_out_is_doubted_unless_it_gives_splits(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.avi", "a/2.avi", "b/1.avi")
    (tmp_path / "manifest.csv").write_text("path,patient\na/1.avi,\na/2.avi,p\nb/1.avi,\n")
    with pytest.raises(EchofmError, match="names repeat between them"):
        list(open_source(tmp_path).rows())
    (tmp_path / "manifest.csv").write_text("path,split\na/1.avi,train\na/2.avi,val\nb/1.avi,test\n")
    assert len(list(open_source(tmp_path).rows())) == 3


@pytest.mark.parametrize(
    "tag", ["Anonymous", "ANON", "0", "0000", "XXXX", "anonymized", "De-Identified", "none", "12345"]
)
def test_placeholders(tag: str) -> None:
    assert is_placeholder(tag)


@pytest.mark.parametrize("tag", ["4711", "P0001", "anon-0012", "1", "1.2.826.0.1", "MRN4455667", "ANONYMOUS17", "Nora"])
def test_ids_that_are_no_placeholder(tag: str) -> None:
    assert not is_placeholder(tag)


def doubts_of(*studies: str, by: str = "tag") -> str | None:
    """Files as (patient, study), "P/S" each."""
    doubts = Doubts()
    for number, each in enumerate(studies):
        patient, study = each.split("/")
        row = Row(path=Path(f"/x/{number}.dcm"), patient="")
        doubts.read_row(row, patient_id=patient, study_id=study, by=by)  # type: ignore[arg-type]
    return doubts.reason


def test_one_id_over_many_studies() -> None:
    usual = [f"p{number}/s{number}" for number in range(20)]
    heavy = [f"p/{number}" for number in range(7)]
    assert doubts_of(*usual, *heavy, *heavy) is None, "a patient who came often, and several files of each study"
    assert doubts_of(*(f"p{n // 3}/s{n}" for n in range(60))) is None
    assert doubts_of(*(f"p{n % 4}/s{n}" for n in range(60))) is None, "few patients, all followed for years"
    assert doubts_of(*("p/" for _ in range(60))) is None, "files without a study are of one"
    assert "covers 8 of the 8" in (doubts_of(*(f"p/{n}" for n in range(30))) or "")
    assert "covers 8 of the 28 studies" in (doubts_of(*usual, *heavy, "p/7") or "")
    assert doubts_of(*(f"p{n}/s{n}" for n in range(200)), *heavy, "p/7", "p/8") is None, "few of a large cohort"


def test_placeholders_and_empty_tags_over_several_studies() -> None:
    assert "placeholder covers 2" in (doubts_of("p/1", "p/2", by="placeholder") or "")
    assert doubts_of("p/1", "p/1", by="placeholder") is None, "one study is one patient's"
    assert "empty in the files of 2" in (doubts_of("s1/x", "s2/y", by="study") or "")
    assert doubts_of("p/1", "p/2", by="given") is None


def test_several_ids_within_one_study() -> None:
    assert "one study carry several" in (doubts_of("p1/1", "p2/2", "p3/2") or "")
    # One study over all is a constant.
    assert doubts_of("p1/1", "p2/1", "p3/1") is None
    assert doubts_of("p1/", "p2/") is None and doubts_of("p1/1", "p2/1", by="given") is None


def test_an_anonymiser_that_gives_each_file_its_own_id_is_noticed(tmp_path: Path) -> None:
    for number in range(4):
        dicom(tmp_path / "in" / f"{number}.dcm", patient=f"R{number}", study=f"1.2.{number // 2}", seed=number)
    small = {"size": 32, "frame_rate_hz": None, "processes": 1, "show_progress": False}
    with pytest.raises(EchofmError, match=r"one study carry several PatientIDs.*--patient-from study"):
        write_shards(open_source(tmp_path / "in"), tmp_path / "out", **small)  # type: ignore[arg-type]
    by_study = write_shards(open_source(tmp_path / "in", patient_from="study"), tmp_path / "study", **small)  # type: ignore[arg-type]
    assert patients(by_study) == 2
    assert check_main([str(tmp_path / "in"), "--processes", "1"]) == 1


@pytest.fixture
def dummy(tmp_path: Path) -> Path:
    root = tmp_path / "exports"
    for number in range(6):
        who = "Anonymous" if number < 3 else f"P{number}"
        dicom(root / f"{number}.dcm", patient=who, study=f"1.2.3.{number}", seed=number)
    return root


def test_one_placeholder_over_studies_stops_what_needs_patients(dummy: Path, tmp_path: Path) -> None:
    small = {"size": 32, "frame_rate_hz": None, "processes": 1, "show_progress": False}
    with pytest.raises(EchofmError, match=r"placeholder covers 2 .*--patient-from study .*dicom .*manifest"):
        write_shards(open_source(dummy), tmp_path / "out", **small)  # type: ignore[arg-type]
    contract = InputContract(size=32, frames=4)
    files = open_videos(dummy, options=ReadOptions(key=IdKey(bytes(16)))).input(contract)
    with pytest.raises(EchofmError, match="placeholder covers 2"):
        list(files.read(range(len(files))))
    synthetic = open_videos(dummy, options=ReadOptions(key=IdKey(bytes(16))), has_patients=False).input(contract)
    assert len(list(synthetic.read(range(len(synthetic))))) == 6, "of generated clips nobody asks for patients"
    by_tag = write_shards(open_source(dummy, patient_from="dicom"), tmp_path / "tag", **small)  # type: ignore[arg-type]
    by_study = write_shards(open_source(dummy, patient_from="study"), tmp_path / "study", **small)  # type: ignore[arg-type]
    assert patients(by_tag) == 4 and patients(by_study) == 6
    assert by_study.patient_rule == "each DICOM study is a patient" and by_study.patients_by == {"given": 6}
    assert by_tag.patients_by == {"placeholder": 1, "tag": 3} and read_manifest(tmp_path / "tag") == by_tag


def patients(manifest: Manifest) -> int:
    return sum(counts.patients for counts in manifest.splits.values())


def test_check_tells_it_and_goes_on(dummy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert check_main([str(dummy), "--processes", "1", "--json", str(out)]) == 1
    (finding,) = (f for f in json.loads(out.read_text())["findings"] if f["code"] == "patients_unknown")
    assert finding["is_problem"] and "Anonymous" not in finding["text"] + capsys.readouterr().out
    assert check_main([str(dummy), "--processes", "1", "--patient-from", "dicom"]) == 0
    for name in ("a/1.avi", "a/2.avi", "b/1.avi"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        write_avi(tmp_path / "tree" / name, lookalikes.heart(len(name)))
    assert check_main([str(tmp_path / "tree"), "--processes", "1"]) == 1
    assert "names repeat between them" in capsys.readouterr().out


def test_an_empty_patient_id_is_each_studys_only_if_the_user_says_so(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"{number}.dcm", patient="", study=f"1.2.{number}", seed=number)
    first = read_clip(tmp_path / "0.dcm")
    assert first.patient_by == "study" and first.patient_id == load_key().patient("1.2.0")
    with pytest.raises(EchofmError, match="PatientID is empty in the files of 2 studies"):
        write_shards(open_source(tmp_path), tmp_path / "out", size=32, show_progress=False)
    row = next(open_source(tmp_path, patient_from="study").rows())
    assert read_row(row).patient_by == "given"


def test_by_study_needs_a_study(tmp_path: Path) -> None:
    path = lookalikes.write_dicom(tmp_path / "x.dcm", lookalikes.heart(1), patient="P1")
    with pytest.raises(UnreadableFile, match="no StudyInstanceUID"):
        read_clip(path, by_study=True)
    touch(tmp_path, "Jane.avi")
    with pytest.raises(EchofmError, match=r"study: [0-9a-f]{20}\.avi is no DICOM"):
        list(open_source(tmp_path, patient_from="study").rows())


def rows_of(classes: str, *, split: str | None = None) -> list[Row]:
    return [
        Row(path=Path(f"/x/{n}.avi"), patient=f"p{n}", split=split, labels={"hcm": word})
        for n, word in enumerate(classes)
    ]


def dealt(rows: list[Row], **how: object) -> list[str | None]:
    choices = {"label": "hcm", "seed": 0, "fractions": (0.8, 0.1, 0.1), "key": IdKey(bytes(16))} | how
    return list(stratified(rows, [row.split for row in rows], **choices))  # type: ignore[arg-type]


def test_a_rare_class_is_in_every_split() -> None:
    rows = rows_of("n" * 60 + "y" * 4)
    for seed in range(20):
        splits = dealt(rows, seed=seed)
        assert sorted(splits[60:]) == ["test", "train", "train", "val"]
        assert [splits[:60].count(name) for name in ("train", "val", "test")] == [48, 6, 6]
    assert dealt(rows, seed=3) == dealt(rows, seed=3) and len({str(dealt(rows, seed=s)) for s in range(4)}) == 4


@pytest.mark.parametrize(("count", "expected"), [(1, "train"), (2, "test train"), (3, "test train val")])
def test_few_patients_of_a_class(count: int, expected: str) -> None:
    assert " ".join(sorted(map(str, dealt(rows_of("y" * count))))) == expected


def test_given_splits_stay_and_a_patient_stays_whole() -> None:
    rows = [*rows_of("yyy", split="test"), *rows_of("n" * 20)[3:]]
    rows += [Row(path=Path("/x/more.avi"), patient="p7", labels={"hcm": "y"}), Row(path=Path("/x/z.avi"), patient="p7")]
    splits = dealt(rows)
    assert splits[:3] == ["test"] * 3
    of_p7 = {split for row, split in zip(rows, splits) if row.patient == "p7"}
    assert len(of_p7) == 1 and of_p7 != {None}


def test_what_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(EchofmError, match="--stratify hcm: no value"):
        dealt([Row(path=Path("/x/1.avi"), patient="p")])
    with pytest.raises(EchofmError, match="30 values; name a label of 2 to 20 classes"):
        dealt([Row(path=Path(f"/x/{n}.avi"), patient=f"p{n}", labels={"hcm": n + 0.5}) for n in range(30)])
    with pytest.raises(EchofmError, match="told by a DICOM tag"):
        dealt([Row(path=Path("/x/1.dcm"), patient="", labels={"hcm": "y"})])


def test_stratified_shards_and_an_empty_train_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from echofm.shards.cli import main as shards_main
    from pretrain.cli import main as pretrain_main

    lines = ["path,patient,sex"]
    for number in range(6):
        write_avi(tmp_path / f"{number}.avi", lookalikes.heart(number))
        lines.append(f"{number}.avi,p{number},{'F' if number < 3 else 'M'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    words = [str(tmp_path), "--size", "32", "--processes", "1"]
    shards_main([*words[:1], str(tmp_path / "dealt"), *words[1:], "--stratify", "sex"])
    counts = read_manifest(tmp_path / "dealt").splits
    assert {name: each.patients for name, each in counts.items()} == {"train": 2, "val": 2, "test": 2}
    assert read_manifest(tmp_path / "dealt").settings.stratify == "sex"
    assert "no clip is in train" not in capsys.readouterr().out
    shards_main([*words[:1], str(tmp_path / "none"), *words[1:], "--fractions", "0", "0.5", "0.5"])
    assert "no clip is in train" in capsys.readouterr().out
    with pytest.raises(EchofmError, match="the shards hold no training clip"):
        pretrain_main(["demo", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_the_table_of_names_is_utf8_and_leads_from_clips_to_files(tmp_path: Path) -> None:
    for number, name in enumerate((b"a b.avi", b"lat\xfcn.avi")):
        write_avi(tmp_path / "t.avi", lookalikes.heart(number))
        os.replace(tmp_path / "t.avi", os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / "broken.avi").write_bytes(b"RIFF")
    check_main([str(tmp_path), "--processes", "1", "--names", str(tmp_path / "names.csv")])
    with open(tmp_path / "names.csv", encoding="utf-8", newline="") as file:
        table = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert set(table) == {"a b.avi", "lat\\xfcn.avi", "broken.avi"}
    assert table["a b.avi"]["clip_id"] == read_clip(tmp_path / "a b.avi").clip_id and not table["broken.avi"]["clip_id"]
