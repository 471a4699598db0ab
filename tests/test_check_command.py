"""`echofm check`: counts, findings and exit codes; every look-alike goes through; no name in any output."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from hearts import beating_heart, write_avi

from echofm.check.cli import main
from echofm.check.codec import codec_of
from echofm.check.facts import Facts
from echofm.check.findings import find, splits_in_force
from echofm.check.fingerprint import fingerprint
from echofm.check.page import _histogram
from echofm.check.run import SHEET, check, contact_sheet
from echofm.check.summary import Summary
from echofm.clip import Clip
from echofm.errors import EchofmError, UnreadableFile
from echofm.ids import IdKey, load_key
from echofm.readers.datasets import open_source
from echofm.readers.guarded import ReaderPool
from echofm.readers.source import Row
from echofm.split import split_of


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EchoNet-Dynamic's look-alike with a train video copied, reversed, into the test split, and a broken file."""
    root = lookalikes.echonet_dynamic(tmp_path_factory.mktemp("Jane_Doe") / "set")
    videos = root / "Videos"
    write_avi(videos / "0XCOPY.avi", lookalikes.heart(0)[::-1])
    (videos / "0XBROKEN.avi").write_bytes(b"RIFF but no video")
    with open(root / "FileList.csv", "a") as table:
        table.write(f"0XCOPY,40,50,100,600,800,50,{lookalikes.LENGTH},TEST\n0XBROKEN,40,50,100,600,800,50,1,VAL\n")
    return root


def test_findings_reports_and_exit_codes(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name: tmp_path / f"report.{name}" for name in ("json", "html", "names")}
    arguments = [part for name, path in outputs.items() for part in (f"--{name}", str(path))]
    assert main([str(planted), "--processes", "1", *arguments]) == 1
    printed = capsys.readouterr().out
    report = json.loads(outputs["json"].read_text())
    assert report["data_set"] == "echonet-dynamic" and report["clips"] == 6 and report["files"] == 7
    assert report["counts"]["split"] == {"train": 3, "test": 2, "val": 1}
    assert report["counts"]["frame rate"] == {"50 Hz": 6} and report["counts"]["codec"] == {"mjpeg": 6}
    assert report["labels"]["ef_percent"] == {"clips": 6, "min": 40.0, "median": 42.0, "max": 44.5}
    codes = {finding["code"]: finding for finding in report["findings"]}
    assert codes["duplicates_across_splits"]["is_problem"] and codes["set_aside"]["is_problem"]
    (pair,) = codes["duplicates_across_splits"]["groups"]
    with open(outputs["names"], newline="") as table:
        paths = {row["file_id"]: Path(row["path"]).name for row in csv.DictReader(table)}
    assert sorted(paths[name] for name in pair) == ["0X0000000000000000.avi", "0XCOPY.avi"]
    assert [paths[entry["file_id"]] for entry in report["set_aside"]] == ["0XBROKEN.avi"]
    assert "!! 1 recording in several splits" in printed and "not in Videos/: 1" in printed
    assert "--names FILE" not in printed, "they were asked for"
    for text in (printed, outputs["json"].read_text(), outputs["html"].read_text()):
        assert "Jane_Doe" not in text and "0XCOPY" not in text and "0X000" not in text
    page = outputs["html"].read_text()
    assert "ef_percent" in page and page.count("data:image/png") >= 6 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("name", lookalikes.ALL)
def test_every_set_goes_through(tmp_path: Path, name: str) -> None:
    source = open_source(lookalikes.ALL[name](tmp_path / "set"))
    summary = check(source, processes=1)
    assert summary.data_set == name and len(summary.facts) == len(list(source.rows())) and not summary.set_aside
    problems = [finding.code for finding in summary.findings if finding.is_problem]
    assert problems == (["frame_rate_unknown"] if name in ("cardiacnet", "segrwma", "cardiacuda") else [])
    assert [one.kind for one in summary.facts] == ["still" if name == "tmed-2" else "bmode"] * len(summary.facts)
    assert (summary.shard_bytes() > 112 * 112 * len(summary.facts)) == (name != "tmed-2")


@pytest.fixture(scope="module")
def summary(planted: Path) -> Summary:
    return check(open_source(planted), processes=1)


def test_the_report_does_not_depend_on_the_number_of_processes(planted: Path, summary: Summary) -> None:
    one, two = summary.to_json(), check(open_source(planted), processes=2).to_json()
    changing = ("read_s", "processes")
    assert {k: v for k, v in one.items() if k not in changing} == {k: v for k, v in two.items() if k not in changing}


def test_the_estimate_is_near_the_shards(planted: Path, summary: Summary, tmp_path: Path) -> None:
    from echofm.shards.write import write_shards

    write_shards(open_source(planted), tmp_path / "out", processes=1, max_bad=0.5)
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert summary.shard_bytes() == pytest.approx(written, rel=0.1)


def test_bad_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="check the path"):
        main([str(tmp_path / "nowhere")])
    (tmp_path / "Videos").mkdir()
    (tmp_path / "FileList.csv").write_text("FileName,EF,EDV,Split\n")
    with pytest.raises(EchofmError, match=r"FileList\.csv has no column ESV"):
        main([str(tmp_path), "--processes", "1"])


@pytest.mark.parametrize("home", ["a_file", "a_file/below"])
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """As in a container. A file stands for a folder without rights, which root would not notice."""
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("ECHOFM_HOME", str(tmp_path / home))
    with pytest.raises(EchofmError, match=r"\$ECHOFM_HOME .* --id-key") as caught:
        main([str(tmp_path), "--processes", "1"])
    assert str(tmp_path) not in str(caught.value)
    key = tmp_path / "id.key"
    key.write_text("0123456789abcdef")
    assert main([str(tmp_path), "--processes", "1", "--id-key", str(key)]) == 1, "an empty folder, which is a finding"


def test_a_user_without_a_home_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOFM_HOME", "~nobody-of-this-name/echofm")
    with pytest.raises(EchofmError, match=r"no home folder.* --id-key"):
        load_key()


def test_an_empty_folder_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--html", str(tmp_path / "report.html")]) == 1
    printed = capsys.readouterr().out
    assert "no file of this folder can be used" in printed and "--names" not in printed, "there is no file to name"


def facts(name: str, *, patient: str, split: str | None, kind: str = "bmode", rate: float | None = 50.0) -> Facts:
    frames_THW = beating_heart(frames=4, size=32, seed=int(name))[0]
    clip = Clip(frames_TCHW=frames_THW[:, None], sector_HW=frames_THW.max(axis=0) > 8, clip_id=name, patient_id=patient)
    return Facts(
        file_id=f"f{name}",
        clip_id=name,
        patient_id=patient,
        study_id=None,
        patient_by="given",
        split=split,
        view="A4C",
        kind=kind,
        codec="mjpeg",
        frames=4,
        height=32,
        width=32,
        frame_rate_hz=rate,
        seconds=None if rate is None else 4 / rate,
        sector_share=0.5,
        file_bytes=1,
        labels={},
        mask_share=0.0,
        has_phase=False,
        sector_print=fingerprint(clip),
        picture_print=fingerprint(clip, whole_picture=True),
        thumbnail=None,
    )


def test_each_finding() -> None:
    from echofm.check.duplicates import Pair

    several = [
        facts("0", patient="a", split="train"),
        facts("1", patient="a", split="test"),
        facts("2", patient="b", split="train"),
        facts("3", patient="c", split="train"),
        facts("4", patient="c", split="train", rate=None),
        facts("5", patient="d", split="val", kind="colour_doppler"),
        facts("6", patient="e", split="train"),
    ]
    # 2, 3 and 6 are one recording through two links; 3 and 4 another's within one patient.
    pairs = [Pair(2, 6, 0.9), Pair(3, 6, 0.9), Pair(0, 1, 0.9)]
    aside = [UnreadableFile("x.avi", "cut")]
    found = {f.code: f for f in find(several, pairs, aside, {"links that lead nowhere": 2}, seed=0)}
    assert found["duplicates_across_splits"].groups == (("f0", "f1"),)
    assert found["duplicates_across_patients"].groups == (("f2", "f3", "f6"),)
    assert found["patients_in_two_splits"].groups == (("a",),)
    assert found["frame_rate_unknown"].groups == (("f4",),)
    assert "1 colour_doppler" in found["other_kinds"].text and not found["other_kinds"].is_problem
    assert found["note"].text == "links that lead nowhere: 2" and not found["note"].is_problem
    within = find(several, [Pair(3, 4, 0.9)], [], {}, seed=0)
    assert [f.code for f in within if f.code.startswith("duplicates")] == ["duplicates_within_patient"]
    assert not next(f for f in within if f.code == "duplicates_within_patient").is_problem


def test_labels_that_differ_by_rounding_are_drawn() -> None:
    assert _histogram("ef_percent", [55.0, float(np.nextafter(55, 56)), 55.0]).axes


def test_the_contact_sheet_is_of_the_whole_folder() -> None:
    def shown(count: int) -> list[str]:
        several = [replace(facts(str(number), patient="a", split="train"), in_sheet=True) for number in range(count)]
        summary = Summary(
            data_set="", patient_rule="", facts=several, set_aside=[], findings=[], splits=[], elapsed_s=0, processes=1
        )
        return [one.file_id for one in contact_sheet(summary)]

    assert shown(3) == ["f0", "f1", "f2"] and shown(0) == []
    most = shown(48)
    assert len(set(most)) == SHEET and most[0] == "f0" and most[-1] == "f47"


def test_a_sector_that_loses_is_a_finding_and_is_shown(tmp_path: Path) -> None:
    from echofm.check.run import worst_sectors

    several = [
        replace(facts("0", patient="a", split="train"), lit_outside=0.01, trace_outside=0.0),
        replace(facts("1", patient="b", split="train"), lit_outside=0.3),
        replace(facts("2", patient="c", split="train"), lit_outside=0.0, trace_outside=0.4, dropped_frames=3),
        # Of a still the words are lit too.
        replace(facts("3", patient="d", split="train"), lit_outside=0.5, frames=1),
    ]
    found = {finding.code: finding for finding in find(several, [], [], {}, seed=0)}
    assert found["sector_loses"].is_problem and found["sector_loses"].groups == (("f2", "f1"),)
    assert found["dropped_frames"].text.startswith("3 frames before or after 1 cine")
    summary = Summary(
        data_set="", patient_rule="", facts=several, set_aside=[], findings=[], splits=[], elapsed_s=0, processes=1
    )
    assert [one.file_id for one in worst_sectors(summary)] == ["f2", "f1"]
    assert summary.to_json()["sectors"][2] == {"file_id": "f2", "lit_outside": 0.0, "trace_outside": 0.4}


def test_the_share_of_the_trace_outside_the_sector(tmp_path: Path) -> None:
    from echofm.check.facts import examine

    frames_THW = beating_heart(frames=4, size=32)[0]
    mask_THW = np.full(frames_THW.shape, 255, np.uint8)
    mask_THW[1] = 0
    mask_THW[1, 10:20, 10:20] = 1
    sector_HW = np.ones((32, 32), bool)
    sector_HW[:, 15:] = False
    clip = Clip(frames_TCHW=frames_THW[:, None], sector_HW=sector_HW, mask_THW=mask_THW, clip_id="0", patient_id="a")
    path = tmp_path / "a.avi"
    path.write_bytes(b"")
    [noted] = examine(Row(path=path, patient="a"), [clip], key=IdKey(bytes(32)), sheet=frozenset())
    assert noted.trace_outside == 0.5 and noted.lost == 0.5 and noted.thumbnail is not None


def test_splits_in_force_are_those_of_the_shards() -> None:
    several = [
        facts("0", patient="a", split=None),
        facts("1", patient="b", split="val"),
        facts("2", patient="b", split=None),
    ]
    assert splits_in_force(several, seed=7) == [split_of("a", seed=7), "val", "val"]


def test_codecs(tmp_path: Path) -> None:
    heart = lookalikes.heart(0)
    assert codec_of(write_avi(tmp_path / "a.avi", heart)) == "mjpeg"
    assert codec_of(write_avi(tmp_path / "b.mp4", heart, codec="mpeg4")) == "mpeg4"
    assert codec_of(lookalikes.write_dicom(tmp_path / "c", heart, patient="x")) == "Explicit VR Little Endian"
    lookalikes.write_nifti(tmp_path / "d.nii.gz", heart)
    assert codec_of(tmp_path / "d.nii.gz") == "NIfTI, gzip"
    (tmp_path / "e.avi").write_bytes(b"RIFF")
    assert codec_of(tmp_path / "e.avi") == "unknown"


def test_no_file_is_read_twice(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is handed to the readers once, and nothing else reads pixels."""
    handed: list[Path] = []
    real = ReaderPool.map

    def counting(self: ReaderPool, rows: list) -> object:
        handed.extend(row.path for row in rows)
        return real(self, rows)

    monkeypatch.setattr(ReaderPool, "map", counting)
    check(open_source(planted), processes=1)
    assert len(handed) == len(set(handed)) == 7
