"""Labels of one's own: what columns mean, what cells hold, whose they are; nothing of a patient is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hearts import beating_heart, write_avi
from test_patients import dicom

from echofm.cli import main
from echofm.embed.own_labels import with_own_labels
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.ids import load_key
from echofm.readers.datasets import open_source
from echofm.readers.datasets.cells import quoted
from echofm.readers.datasets.columns import Column, label_name, understood
from echofm.readers.datasets.views import view_of
from echofm.readers.labels import OwnLabels, parsed_map
from echofm.readers.options import ReadOptions
from echofm.readers.read import read_row
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from probe.labels.target import read_target


@pytest.mark.parametrize("cell", ["AP4", "ap4c", "4CH", "4C", "a4c", "Apical 4 chamber", "apical four-chamber view"])
def test_synonyms_of_a_view_are_one(cell: str) -> None:
    assert view_of(cell) == "A4C"


def test_other_views() -> None:
    found = [view_of(cell) for cell in ("Parasternal long axis", "PSAX", "2 chamber", "AP3", "subcostal", "RV inflow")]
    assert found == ["PLAX", "PSAX", "A2C", "A3C", "SC", None]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        *[("LVEF (%)", "ef_percent"), ("EF [%]", "ef_percent"), ("LVEF %", "ef_percent"), ("lvef", "ef_percent")],
        *[
            ("IVSd (cm)", "ivsd_cm"),
            ("LVIDd (mm)", "lvidd_mm"),
            ("LAVI (mL/m²)", "lavi_ml_m2"),
            ("HR", "heart_rate_bpm"),
        ],
        *[
            ("Gender", "sex"),
            ("e' (cm/s)", None),
            ("GLS", None),
            ("Name", None),
            ("lvidd", None),
            ("ivsd_cm", "ivsd_cm"),
        ],
    ],
)
def test_a_header_tells_the_label_with_its_unit(header: str, name: str | None) -> None:
    assert label_name(header) == name


def test_kinds_of_columns() -> None:
    def read(header: str, *cells: str, name: str | None = None) -> tuple[str, list]:
        column = understood(header, dict(enumerate(cells)), name=name)
        return (column.kind, list(column.values.values())) if isinstance(column, Column) else (column.holds, [])

    assert read("Dilated LV", "Yes", "No", "n/a", "1") == ("yes_no", ["yes", "no", "yes"])
    assert read("MR", "Mild to moderate", "trivial", "no") == ("grade", ["mild_moderate", "trace", "none"])
    assert read("LVEF (%)", "55 %", "61.5", "55 cm") == ("number", [55.0, 61.5])
    assert read("LVEF (%)", "0.55", "0.6")[1] == [], "fractions are no per cent"
    assert read("Echo date", "2022-03-10")[0] == "dates" and read("GLS", "-18")[0] == "numbers without a unit"
    assert read("Echo date", "10.03.2022", "03/04/2022", name="echo_date") == ("date", ["2022-03-10"])
    assert read("Echo date", "10.03.2022 11:15", name="echo_year") == ("year", [2022])
    assert read("Reader", "Anna", "Ben", "Anna") == ("words", []), "words are read only where they are asked for"
    assert read("Site", "North", "South", "North", name="site") == ("word", ["north", "south", "north"])
    assert read("Who", "doe", "roe", "poe", "moe", name="site")[1] == [], "a word of its own in most rows is a name"


@pytest.mark.parametrize("cell", ["DOE JANE", "5512340077", "1951-02-03", "3/2/1951", "Smith", "C:/ward/doe.avi"])
def test_a_cell_that_may_be_a_patients_is_not_shown(cell: str) -> None:
    assert cell not in quoted(cell) and quoted("<30") == "'<30'" and quoted("55,5") == "'55,5', write 55.5"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wards with a file of the same name; a table keyed by file, and one by patient of DICOM files."""
    root = tmp_path_factory.mktemp("hospital")
    for number, name in enumerate(["ward0/exam.avi", "ward1/exam.avi", "ward1/second.avi"]):
        (root / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_avi(root / "videos" / name, beating_heart(frames=12, size=96, seed=number)[0])
    (root / "ef.csv").write_text(
        "File,LVEF (%),View,Dilated,Reader,Note\n"
        "ward0/exam.avi,41,AP4,Yes,doe,x\nward1\\EXAM.AVI,55 %,4CH,No,doe,y\n"
        "second,about 60,PLAX,yes,roe,z\nlost.avi,1,,,,\n"
    )
    return root


def test_shards_take_labels_by_file_name(hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["shards", hospital / "videos", tmp_path / "s", "--size", 64, "--fps", "native", "--patient-from", "stem"]
    words += ["--split-by", "none", "--labels", hospital / "ef.csv", "--map", "Reader=reader"]
    assert main([*map(str, words)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    metas = [record.meta for record in ShardSet.open(tmp_path / "s").records]
    found = sorted((meta.labels.get("ef_percent", 0), meta.view, meta.labels["dilated"]) for meta in metas)
    assert found == [(0, "PLAX", "yes"), (41.0, "A4C", "yes"), (55.0, "A4C", "no")]
    assert "cells of LVEF (%) that hold no number (row 3: something of 8 characters): 1" in shown
    assert 'not read: "Note" (words)' in shown and "lines of ef.csv without a file: 1" in shown
    assert "of 3 clips: dilated 3, ef_percent 2, reader 3" in shown
    assert "exam" not in shown and "doe" not in shown


def test_a_name_in_two_folders_is_refused(hospital: Path) -> None:
    (hospital / "short.csv").write_text("file,ef_percent\nexam,50\n")
    labels = OwnLabels(hospital / "short.csv", by="filename")
    with pytest.raises(EchofmError, match="row 1 below the header: 2 files have this name"):
        labels.on_rows(list(open_source(hospital / "videos", patient_from="stem").rows()))


def test_by_patient_and_by_study_of_dicom_tags(tmp_path: Path) -> None:
    study = "1.2.840.5"
    path = dicom(tmp_path / "a.dcm", patient="MRN77", study=study, seed=1)
    (tmp_path / "mrn.csv").write_text("MRN,EF\nMRN77,44\nMRN78,50\n")
    (tmp_path / "study.csv").write_text(f"Exam UID;Grade AR\n{study};mild\n")
    by_mrn = OwnLabels(tmp_path / "mrn.csv", by="MRN")
    by_study = OwnLabels(tmp_path / "study.csv", by="study", choose={"Exam UID": "study"})
    for labels, name, value in ((by_mrn, "ef_percent", 44.0), (by_study, "grade_ar", "mild")):
        clip = read_row(Row(path=path, patient=""), ReadOptions(labels=labels, keep_outside=True))
        assert dict(clip.labels) == {name: value}
        of_ids = labels.by_id(load_key())
        assert of_ids.get(clip.patient_id, of_ids.get(str(clip.study_id))) == clip.labels, "hashed ids join the same"
    assert "77" not in repr(by_mrn)


def test_labels_on_a_table_by_hashed_id(tmp_path: Path) -> None:
    key = load_key()
    patients = [key.patient(f"p{number}") for number in range(12)]
    table = EmbeddingTable.from_arrays(
        [[float(n)] for n in range(12)], clip_id=[f"c{n}" for n in range(12)], patient_id=patients, encoder_digest="e"
    )
    lines = "\n".join(f"p{n},{n % 2},{('mild', 'none', 'severe')[n % 3]}" for n in range(12))
    (tmp_path / "own.csv").write_text(f"patient,amyloid,severity\n{lines}\n")
    table = with_own_labels(table, OwnLabels(tmp_path / "own.csv", by="MRN").by_id(key))
    severity = read_target(table, "severity")
    assert (severity.task, severity.classes) == ("ordinal", ("none", "mild", "severe")), "grades rise by themselves"
    assert read_target(table, "amyloid").classes == ("no", "yes")
    with pytest.raises(EchofmError, match="names a patient, study or clip"):
        with_own_labels(table, {"other": {"a": 1}})


@pytest.mark.parametrize(
    ("text", "by", "chosen", "says"),
    [
        ("file,ef_percent\na,1\na,2\n", "filename", [], "rows 1 and 2 below the header name one file"),
        ("MRN,ef_percent\na,1\na,2\n", "MRN", [], "rows 1 and 2 below the header name one patient"),
        ("nr,ef_percent\na,1\n", "MRN", [], "no column for --key MRN"),
        (
            "file,comment\na,long tale\n",
            "filename",
            [],
            'holds no label: columns of t.csv that are not read: "comment"',
        ),
        ("file,ef_percent\na,1\n", "filename", ["LVEF=ef_percent"], "no column 'LVEF'"),
        ("file,ef_percent\na,1\n", "filename", ["ef_percent=2 EF"], "no label can be called '2 EF'"),
        ("file,ef_percent\na,1\n", "filename", ["ef_percent"], "give COLUMN=NAME"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, by: str, chosen: list[str], says: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EchofmError, match=says.replace("(", r"\(")):
        OwnLabels(tmp_path / "t.csv", by=by, choose=parsed_map(chosen))


def test_a_number_of_a_study_is_each_patients_own(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("study,patient,ef_percent\n1,a,55\n1,b,44\n1.2.840.5.1,a,60\n")
    labels = OwnLabels(tmp_path / "own.csv", by="study")
    assert labels.of(Path("x.avi"), patient="b", study="1") == {"ef_percent": 44.0}
    assert labels.of(Path("x.avi"), patient="c", study="1") == {}, "a third patient's first study is nobody's here"
    assert labels.of(Path("x.avi"), patient="pseudonym", study="1.2.840.5.1") == {"ef_percent": 60.0}, (
        "unique by itself"
    )


def test_labels_by_the_ids_of_clips_reach_files(hospital: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = list(open_source(hospital / "videos", patient_from="stem").rows())
    clips = sorted(read_row(row).clip_id for row in rows)
    (tmp_path / "own.csv").write_text(f"clip_id,ef_percent\n{clips[0]},55\n")
    words = [hospital / "videos", tmp_path / "t", "--patient-from", "stem", "--cache", tmp_path / "c", "--no-phase"]
    words += ["--labels", tmp_path / "own.csv", "--key", "clip_id", "--processes", 1]
    assert main(["embed", "pixels", *map(str, words)]) == 0
    table = EmbeddingTable.load(tmp_path / "t").rows.set_index("clip_id")["ef_percent"]
    assert table[clips[0]] == 55 and table.notna().sum() == 1
    assert f"labels of {len(clips)} clips: ef_percent 1" in capsys.readouterr().out


def test_a_header_in_quotes_may_go_over_two_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('file,"LVEF\n(%)"\na,55\n')
    labels = OwnLabels(tmp_path / "t.csv", by="filename")
    assert labels.of(Path("a.avi"), patient="", study=None) == {"ef_percent": 55.0}


def test_names_under_a_known_header_are_not_taken() -> None:
    cells = ["HCM", "Jane Doe", "heart failure", "Dilated cardiomyopathy", "DOE^JOHN"]
    found = understood("Diagnosis", dict(enumerate(cells)))
    assert isinstance(found, Column)
    assert list(found.values.values()) == ["hcm", "heart failure", "dilated cardiomyopathy"]
    assert found.note is not None and "--map" in found.note and "oe" not in found.note.partition("others)")[2]
    asked = understood("Diagnosis", dict(enumerate(["hcm", "storage disease"] * 4)), name="diagnosis")
    assert isinstance(asked, Column) and set(asked.values.values()) == {"hcm", "storage disease"}
    assert not isinstance(understood("Diagnosis", dict(enumerate(cells)), name="diagnosis"), Column)


def test_excels_line_above_the_header(tmp_path: Path) -> None:
    table = tmp_path / "ef.csv"
    table.write_text("sep=;\nfilename;ef_percent\none.avi;55.5\n", encoding="utf-8-sig")
    assert OwnLabels(table, by="filename").of(tmp_path / "one.avi", patient="", study=None) == {"ef_percent": 55.5}
