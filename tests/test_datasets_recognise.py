"""Every set is known where it lies deeper, and in copies whose names and tables were changed on the way."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import lookalikes
import pandas as pd
import pytest
from hearts import write_avi

from echofm.errors import EchofmError
from echofm.readers.datasets import open_source
from echofm.readers.source import Row

SETS = [name for name in lookalikes.ALL if name != "folder"]


def content(row: Row) -> tuple[object, ...]:
    return row.patient.casefold(), row.split, row.view, row.kind, dict(row.labels), row.add_truth is not None


def all_rows(root: Path, name: str) -> list[tuple[object, ...]]:
    source = open_source(root)
    assert source.name == name
    return sorted(map(content, source.rows()), key=repr)


@pytest.mark.parametrize("name", SETS)
def test_a_folder_too_high_and_unpacked_twice(tmp_path: Path, name: str) -> None:
    root = lookalikes.ALL[name](tmp_path / "downloads" / "twice" / "twice")
    expected = all_rows(root, name)
    (tmp_path / "downloads" / "__MACOSX").mkdir()
    for above in (root.parent, tmp_path / "downloads"):
        assert all_rows(above, name) == expected
        assert [content(row) for row in open_source(above, dataset=name).rows()]


@pytest.mark.parametrize("name", SETS)
def test_names_of_folders_and_tables_in_another_case(tmp_path: Path, name: str) -> None:
    root = lookalikes.ALL[name](tmp_path / "set")
    expected = all_rows(root, name)
    for path in sorted((p for p in root.rglob("*") if p.is_dir() or ".csv" in p.name), reverse=True):
        # What names a patient, a study or a case is no name of the set's.
        if not re.match(r"patient\d|p\d|s\d|\d", path.name):
            path.rename(path.with_name(path.name.swapcase()))
    assert all_rows(root, name) == expected


def packed(table: Path) -> None:
    if table.suffix != ".gz":
        table.with_name(table.name + ".gz").write_bytes(gzip.compress(table.read_bytes()))
        table.unlink()


def rewritten(table: Path, change: Callable[[pd.DataFrame], pd.DataFrame], **how: object) -> None:
    change(pd.read_csv(table, dtype=str, keep_default_na=False)).to_csv(table, **{"index": False, **how})


def with_index(table: Path) -> None:
    rewritten(table, lambda frame: frame, index=True)


def turned_round(table: Path) -> None:
    rewritten(table, lambda frame: frame[frame.columns[::-1]])


def as_spreadsheets_do(table: Path) -> None:
    rewritten(table, lambda frame: frame, sep=";", lineterminator="\r\n", encoding="utf-8-sig")
    with (gzip.open if table.suffix == ".gz" else open)(table, "ab") as file:
        file.write(b"\r\n;;;\r\n")


@pytest.mark.parametrize("change", [packed, with_index, turned_round, as_spreadsheets_do])
@pytest.mark.parametrize("name", [name for name in SETS if name not in ("camus", "cardiacnet", "cardiacuda")])
def test_tables_as_copies_have_them(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    root = lookalikes.ALL[name](tmp_path / "set")
    if name == "hmc-qu" and change is as_spreadsheets_do:
        pytest.skip("its workbooks are not exported by semicolons alone")
    expected = all_rows(root, name)
    for table in sorted(root.rglob("*.csv*")):
        change(table)
    assert all_rows(root, name) == expected


@pytest.mark.parametrize("name", ["echonet-dynamic", "echonet-pediatric", "echonet-synthetic", "echonet-lvh"])
def test_an_unknown_word_of_a_split_costs_its_rows_and_is_named(tmp_path: Path, name: str) -> None:
    root = lookalikes.ALL[name](tmp_path / "set")
    before = list(open_source(root).rows())
    table = next(path for path in sorted(root.rglob("*List.csv")))
    column = "split" if name == "echonet-lvh" else "Split"
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    key = frame.columns[1 if name == "echonet-lvh" else 0]
    frame.loc[frame[key] == frame[key].iloc[0], column] = "held_out"
    frame.to_csv(table, index=False)
    source = open_source(root)
    after = list(source.rows())
    assert len(after) == len(before) - 1 and {row.path for row in after} < {row.path for row in before}
    (note,) = (note for note in source.notes if "held_out" in note)
    assert f"row 1 below the header, column {column}: 'held_out'" in note and table.name in note
    frame[column] = "held_out"
    frame.to_csv(table, index=False)
    with pytest.raises(EchofmError, match=r"row 1 below the header, column .*'held_out'.*correct it"):
        list(open_source(root).rows())


def test_a_cell_that_may_name_somebody_is_not_shown(tmp_path: Path) -> None:
    root = lookalikes.echonet_dynamic(tmp_path / "set")
    table = root / "FileList.csv"
    table.write_text(table.read_text().replace("TRAIN", "Doe Jane 1950"))
    with pytest.raises(EchofmError, match="row 1 below the header, column Split: something of 13 characters") as caught:
        list(open_source(root).rows())
    assert "Doe" not in str(caught.value)


def test_several_sets_are_refused_with_the_folders_to_give(tmp_path: Path) -> None:
    lookalikes.echonet_dynamic(tmp_path / "Jane_Doe" / "EchoNet-Dynamic")
    lookalikes.camus(tmp_path / "CAMUS_public")
    with pytest.raises(EchofmError, match=r"CAMUS in CAMUS_public and EchoNet-Dynamic in \*/EchoNet-Dynamic") as caught:
        open_source(tmp_path)
    assert "Jane" not in str(caught.value) and "--dataset folder" in str(caught.value)
    assert open_source(tmp_path, dataset="camus").name == "camus"
    assert open_source(tmp_path, dataset="folder").root == tmp_path


def test_a_set_beside_other_files_is_refused(tmp_path: Path) -> None:
    lookalikes.echonet_dynamic(tmp_path / "EchoNet-Dynamic")
    write_avi(tmp_path / "own.avi", lookalikes.heart(1))
    with pytest.raises(EchofmError, match="beside other echo files: EchoNet-Dynamic in EchoNet-Dynamic; give one"):
        open_source(tmp_path)
    (tmp_path / "manifest.csv").write_text("path\nown.avi\n")
    assert open_source(tmp_path).name == "folder", "a manifest says what is meant"


def test_a_list_stands_for_its_folder_and_a_part_is_noted(tmp_path: Path) -> None:
    root = lookalikes.echonet_dynamic(tmp_path / "set")
    assert all_rows(root / "FileList.csv", "echonet-dynamic") == all_rows(root, "echonet-dynamic")
    part = open_source(root / "Videos")
    assert len(list(part.rows())) == 6
    assert any("a part of EchoNet-Dynamic" in note for note in part.notes)


def test_tables_that_lie_unused_are_named_unless_they_may_name_somebody(tmp_path: Path) -> None:
    write_avi(tmp_path / "one.avi", lookalikes.heart(1))
    (tmp_path / "more").mkdir()
    for name in ("FileList.csv", "doe_jane.csv", "more/echo_labels.xlsx"):
        (tmp_path / name).write_text("name,label\n")
    source = open_source(tmp_path)
    list(source.rows())
    texts = " ".join(source.notes)
    assert "not read: FileList.csv" in texts and "echo_labels.xlsx" in texts and "another name (.csv)" in texts
    assert "doe" not in texts


def test_videos_of_a_list_in_other_formats_and_folders(tmp_path: Path) -> None:
    root = lookalikes.echonet_dynamic(tmp_path / "set")
    expected = all_rows(root, "echonet-dynamic")
    videos = sorted((root / "Videos").glob("0X0*.avi"))
    shutil.copy(videos[1], videos[1].with_suffix(".mp4"))
    videos[0].rename(videos[0].with_suffix(".MP4"))
    source = open_source(root)
    assert all_rows(root, "echonet-dynamic") == expected
    list(source.rows())
    assert source.notes["videos that are here in a further format (left out)"] == 1


@pytest.mark.parametrize("place", [".", "videos/videos", "avi"])
def test_videos_of_a_list_in_other_places(tmp_path: Path, place: str) -> None:
    root = lookalikes.echonet_dynamic(tmp_path / "set")
    expected = all_rows(root, "echonet-dynamic")
    (root / "Videos").rename(root / "before")
    (root / place).mkdir(parents=True, exist_ok=True)
    for path in (root / "before").iterdir():
        path.rename(root / place / path.name)
    (root / "before").rmdir()
    assert all_rows(root, "echonet-dynamic") == expected


NAMES = ("Plantedname", "Janet", "MRN4455667", "19500317")


@pytest.mark.parametrize("name", SETS)
def test_names_planted_in_folders_and_cells_are_in_no_note_and_no_error(tmp_path: Path, name: str) -> None:
    """Whatever becomes of a table whose cells are, column by column, a patient's name: rows, or one error."""
    root = lookalikes.ALL[name](tmp_path / "Plantedname_Janet_19500317" / "set")
    (root / "Plantedname.csv").write_text("Janet,MRN4455667\n")
    texts: list[str] = []
    for table in sorted(root.rglob("*.csv")):
        whole = table.read_text()
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        for column in frame.columns:
            frame.assign(**{column: ["Plantedname^Janet MRN4455667 19500317", *frame[column][1:]]}).to_csv(
                table, index=False
            )
            source = open_source(root)
            try:
                texts += [repr(dict(row.labels)) + repr(row.view) for row in source.rows()]
            except EchofmError as error:
                texts.append(str(error))
            texts += source.notes
        table.write_text(whole)
    if name != "cardiacnet":
        assert texts
    assert not [text for text in texts if any(planted in text for planted in NAMES)]
