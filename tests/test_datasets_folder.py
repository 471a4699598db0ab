"""Any folder and its manifest: who a file belongs to, labels with units, hostile trees and tables."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import lookalikes
import pytest
from hearts import beating_heart, write_avi
from hypothesis import given, settings
from hypothesis import strategies as st

from echofm.errors import EchofmError
from echofm.readers.datasets import open_source
from echofm.readers.datasets.labels import NUMBERS, WORDS, has_unit, number, word
from echofm.readers.options import ReadOptions
from echofm.readers.read import read_row


def touch(path: Path, content: bytes = b"RIFF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_media_are_found_by_suffix_and_dicom_by_its_magic(tmp_path: Path) -> None:
    source = open_source(lookalikes.folder(tmp_path / "f"))
    assert [row.path.name for row in source.rows()] == ["IM_0001", "one.avi", "two.AVI"]
    assert {row.patient for row in source.rows()} == {""}, "the reader takes the DICOM tag, else the name"
    assert "DICOM" in source.patient_rule


@pytest.mark.parametrize(
    ("rule", "names"),
    [("parent", ["a", "s1", "s2"]), ("top", ["a", "b", "b"]), ("stem", ["1", "2", "3"]), ("dicom", [""] * 3)],
)
def test_who_a_file_belongs_to(tmp_path: Path, rule: str, names: list[str]) -> None:
    touch(tmp_path / "a" / "1.avi")
    touch(tmp_path / "b" / "s1" / "2.nii.gz")
    touch(tmp_path / "b" / "s2" / "3.mp4")
    assert [row.patient for row in open_source(tmp_path, patient_from=rule).rows()] == names


def test_a_file_in_no_patients_folder_is_refused_by_its_hash(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "1.avi")
    touch(tmp_path / "Jane_Doe.avi")
    with pytest.raises(EchofmError, match=r"top: [0-9a-f]{20}\.avi lies right in the source") as caught:
        list(open_source(tmp_path, patient_from="top").rows())
    assert "Jane" not in str(caught.value)


def test_unknown_rule_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="choose one of dicom, parent, top, stem"):
        open_source(tmp_path, patient_from="name")
    # What the user typed, in clear.
    with pytest.raises(EchofmError, match=r"Jane_Doe is no folder.*check the path"):
        open_source(tmp_path / "Jane_Doe")


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    path = touch(tmp_path / "one.avi")
    assert [(row.path, row.patient) for row in open_source(path).rows()] == [(path, "")]
    assert next(open_source(path, patient_from="stem").rows()).patient == "one"
    assert next(open_source(path, patient_from="parent").rows()).patient == tmp_path.name


def write_manifest(root: Path, text: str, name: str = "manifest.csv") -> Path:
    for index in range(3):
        touch(root / "v" / f"{index}.avi")
    (root / name).write_text(text, encoding="utf-8")
    return root


def test_manifest(tmp_path: Path) -> None:
    source = open_source(
        write_manifest(
            tmp_path,
            "path,patient,study,split,view,kind,ef_percent,lvidd_cm,sex,rhythm,physician\n"
            "v/1.avi,p1,2,train,a4c,bmode,55.5,,Female,sinus,Dr Who\n"
            "v/0.avi,p0,,Validation,PLAX,,=HYPERLINK(0),4.5,M,=1+1,Dr No\n"
            "v/7.avi,p7,1,test,A2C,,1,2,F,af,x\n",
        )
    )
    rows = list(source.rows())
    assert [row.path.name for row in rows] == ["0.avi", "1.avi"]
    assert [(row.patient, row.study, row.split, row.view, row.kind) for row in rows] == [
        ("p0", None, "val", "PLAX", None),
        ("p1", "2", "train", "A4C", "bmode"),
    ]
    assert dict(rows[0].labels) == {"lvidd_cm": 4.5, "sex": "M"}, "a formula is neither number nor word"
    assert dict(rows[1].labels) == {"ef_percent": 55.5, "sex": "F", "rhythm": "sinus"}
    assert dict(source.notes) == {
        "files in manifest.csv that are not in the folder": 1,
        'columns of manifest.csv that are not read: "physician" (words); '
        "--labels manifest.csv --map 'COLUMN=NAME' reads one": 1,
        "cells of ef_percent that hold no number (row 2: something of 13 characters)": 1,
        "cells of rhythm that hold no known word (--labels with --map COLUMN=NAME takes others) (row 2: something of 4 "
        "characters)": 1,
    }


def test_a_manifest_as_spreadsheets_write_it(tmp_path: Path) -> None:
    source = open_source(
        write_manifest(
            tmp_path,
            "\ufeffpath;patient;ef_percent\r\n"
            "v\\0.avi;p0;55.5\r\n"
            "v/1.avi;p1;61,2\r\n"
            "v/./1.avi;p1;61,2\r\n"
            "v/2.avi;p2;<30\r\n"
            ";;\r\n;;\r\n",
        )
    )
    rows = sorted(source.rows(), key=lambda row: row.path)
    assert [(row.path.name, row.patient) for row in rows] == [("0.avi", "p0"), ("1.avi", "p1"), ("2.avi", "p2")]
    assert [dict(row.labels) for row in rows] == [{"ef_percent": 55.5}, {}, {}]
    assert dict(source.notes) == {
        "lines of manifest.csv that name a file again": 1,
        "cells of ef_percent that hold no number "
        "(row 2: '61,2', write 61.2; row 3: '61,2', write 61.2; row 4: '<30')": 3,
    }


def test_backslashes_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    touch(tmp_path / "secret.avi")
    with pytest.raises(EchofmError, match="leads out of the folder"):
        list(open_source(write_manifest(tmp_path / "f", "path\n..\\secret.avi\n")).rows())


@pytest.mark.parametrize("other", ["p2,train,50", "p1,test,50", "p1,train,51"])
def test_lines_of_one_file_that_contradict_each_other_are_refused(tmp_path: Path, other: str) -> None:
    text = f"path,patient,split,ef_percent\nv/1.avi,p1,train,50\nv/0.avi,p0,train,40\nv/../v/1.avi,{other}\n"
    with pytest.raises(EchofmError, match=r"^manifest.csv: rows 1 and 3 below the header name one file .*keep one row"):
        list(open_source(write_manifest(tmp_path, text)).rows())


def test_files_named_alike_in_several_folders_are_noted(tmp_path: Path) -> None:
    for name in ("a/loop1.avi", "a/loop2.avi", "b/loop1.avi", "b/loop2.AVI", "c/loop1.mp4", "c/IM_1.dcm", "a/IM_1.dcm"):
        touch(tmp_path / name)
    source = open_source(tmp_path, patient_from="dicom")
    assert len(list(source.rows())) == 7
    # A DICOM file has its tag.
    ((note, count),) = source.notes.items()
    assert "same name in another folder (--patient-from parent" in note and count == 3
    by_name = open_source(tmp_path, patient_from="stem")
    assert len(list(by_name.rows())) == 7 and by_name.notes[note] == 4, "here the tag is not asked"
    by_folder = open_source(tmp_path, patient_from="parent")
    assert len(list(by_folder.rows())) == 7 and not by_folder.notes
    touch(tmp_path / "c" / "a" / "loop9.avi")
    assert len(list(by_folder.rows())) == 8
    ((known, count),) = by_folder.notes.items()
    assert "a folder of the same name elsewhere (--patient-from top" in known and count == 1


def test_the_manifests_frame_rate_is_for_files_that_do_not_tell(tmp_path: Path) -> None:
    frames_THW, _ = beating_heart(frames=10, size=48)
    write_avi(tmp_path / "known.avi", frames_THW)
    shutil.copy(tmp_path / "known.avi", tmp_path / "known_2.avi")
    header = "NDims = 3\nDimSize = 48 48 10\nElementType = MET_UCHAR\nElementDataFile = untold.raw\n"
    for name in ("untold.mhd", "untold_2.mhd"):
        (tmp_path / name).write_text(header)
    (tmp_path / "untold.raw").write_bytes(frames_THW.tobytes())
    lines = ["path,frame_rate_hz", "known.avi,20", "untold.mhd,40", "known_2.avi,1e9", "untold_2.mhd,fast"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    source = open_source(tmp_path)
    rows = list(source.rows())
    rates = {
        row.frame_rate_hz: read_row(row, ReadOptions(keep_outside=True)).frame_rate_hz
        for row in rows
        if row.frame_rate_hz
    }
    assert rates == {20: pytest.approx(50), 40: pytest.approx(40)} and not any(row.labels for row in rows)
    assert len(rows) == 4
    assert dict(source.notes) == {
        "cells of frame_rate_hz that are not 1 to 1000": 1,
        "cells of frame_rate_hz that hold no number": 1,
    }


def test_columns_whose_name_no_label_can_have_are_named(tmp_path: Path) -> None:
    odd = ["größe_cm", "e'_cm_s", "2d_ef_percent", "a" * 63 + "_cm"]
    source = open_source(write_manifest(tmp_path, f"path,{','.join(odd)},ef_percent\nv/0.avi,1,2,3,5,6\n"))
    assert [dict(row.labels) for row in source.rows()] == [{"ef_percent": 6.0}]
    ((note, count),) = source.notes.items()
    assert count == 4 and note.count("a name that no label can have: a-z") == 4 and "größe_cm" in note


def test_manifest_given_by_name(tmp_path: Path) -> None:
    write_manifest(tmp_path, "path,patient\nv/2.avi,p\n", "my list.csv")
    source = open_source(tmp_path / "my list.csv")
    assert [(row.path.name, row.patient) for row in source.rows()] == [("2.avi", "p")]


def test_manifest_with_semicolons_and_byte_order_mark(tmp_path: Path) -> None:
    root = write_manifest(tmp_path, "\ufeffPath; EF_percent\nv/2.avi; 44\n")
    assert [dict(row.labels) for row in open_source(root).rows()] == [{"ef_percent": 44.0}]


@pytest.mark.parametrize("name", ["../secret.avi", "/etc/passwd", "", "v/../../x.avi", "v/\0.avi"])
def test_manifest_paths_stay_inside(tmp_path: Path, name: str) -> None:
    write_manifest(tmp_path, "path,patient\nv/1.avi,p\n")
    (tmp_path / "manifest.csv").write_bytes(b"path,patient\n" + name.encode() + b",p\n")
    with pytest.raises(EchofmError, match=r"manifest\.csv") as caught:
        list(open_source(tmp_path).rows())
    assert "passwd" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"FileName,EF,ESV,Split\nx,1,2,TRAIN\n", "no column EDV"),
        (b"FileName,EF,EF,ESV,EDV,Split\nx,1,1,2,3,TRAIN\n", "column EF twice"),
        (b"FileName,EF,ESV,EDV,Split\n0X1,1,2,3,TRIAN\n", "column Split"),
        (b"", "is empty"),
        (b"\xff\xfeF\0i\0l\0e\0", "no column FileName"),
        (b"\xff\xfe" + "FileName,EF,ESV,EDV,Split\n0X1,1,2,3,TRAIN\n".encode("utf-16-le") + b"\0", "no readable CSV"),
        (b"MZ\0\0\x01binary", "binary"),
        (b'FileName,EF,ESV,EDV,Split\n"0X1,1,2,3,TRAIN\n', "no readable CSV"),
        (b"FileName,EF,ESV,EDV,Split\n0X1,1,2,3,TRAIN,5,6,7\n", None),
        (b"FileName,EF,ESV,EDV,Split\n0X1,1,2\n", None),
        (b"FileName,EF,ESV,EDV,Split\n0X1,\xe9\xff,2,3,TRAIN\n", None),
        (b"FileName,EF,ESV,EDV,Split\n0X1,1e999,nan,-inf,\n", None),
        (b"FileName,EF,ESV,EDV,Split\n" + b"0X1,1,2,3,TRAIN\n" * 2, None),
    ],
)
def test_wrong_tables_name_table_and_column(tmp_path: Path, table: bytes, reason: str | None) -> None:
    touch(tmp_path / "Videos" / "0X1.avi")
    touch(tmp_path / "FileList.csv", table)
    source = open_source(tmp_path, dataset="echonet-dynamic")
    if reason is None:
        assert len(list(source.rows())) == 1
        return
    with pytest.raises(EchofmError, match=reason) as caught:
        list(source.rows())
    assert "FileList.csv" in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("cut", [",", "\t"])
def test_unicode_text_of_a_spreadsheet_is_read(tmp_path: Path, coding: str, cut: str) -> None:
    mark = {"utf-16": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[coding]
    table = cut.join(["FileName", "EF", "ESV", "EDV", "Split"]) + "\r\n" + cut.join(["Jürgen", "55", "40", "90", "VAL"])
    touch(tmp_path / "Videos" / "Jürgen.avi")
    touch(tmp_path / "FileList.csv", mark + table.encode(coding))
    source = open_source(tmp_path)
    [row] = source.rows()
    assert source.name == "echonet-dynamic" and row.split == "val" and row.labels["ef_percent"] == 55


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_table_give_rows_or_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("t")
    touch(root / "a.avi")
    touch(root / "manifest.csv", b"path,ef_percent,sex\n" + content)
    rows = []
    with contextlib.suppress(EchofmError):
        rows = list(open_source(root).rows())
    for row in rows:
        assert row.path.is_relative_to(root)
        assert all(isinstance(value, str) or abs(value) < float("inf") for value in row.labels.values())


@given(st.text(max_size=60))
def test_cells_are_numbers_words_or_nothing(cell: str) -> None:
    value = number(cell)
    assert value is None or abs(value) < float("inf")
    kept = word(cell)
    assert kept is None or (kept.isascii() and kept[0].isalnum() and len(kept) <= 40)


def test_the_naming_scheme_holds() -> None:
    assert all(has_unit(name) for name in NUMBERS) and not any(has_unit(name) for name in WORDS)
    assert not has_unit("_cm") and not has_unit("patient_name") and has_unit("tapse_mm")


def test_loops_dead_links_and_pipes_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.avi")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "dead.avi").symlink_to(tmp_path / "nowhere.avi")
    os.mkfifo(tmp_path / "pipe.avi")
    source = open_source(tmp_path)
    assert [row.path.name for row in source.rows()] == ["1.avi"]
    assert dict(source.notes) == {
        "folders reached twice through links": 2,
        "links that lead nowhere": 1,
        "pipes, sockets or devices": 1,
    }


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.avi"
    with open(raw, "wb") as file:
        file.write(b"RIFF")
    row = next(open_source(tmp_path, patient_from="stem").rows())
    assert os.fsencode(row.path) == raw and os.fsencode(row.patient) == b"caf\xe9"


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a" / "1.avi")
    touch(tmp_path / "b" / "2.avi")
    real = os.scandir

    def scandir(path: str) -> object:
        if os.fspath(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = open_source(tmp_path)
    assert [row.path.name for row in source.rows()] == ["2.avi"]
    assert dict(source.notes) == {"folders that cannot be listed": 1}
