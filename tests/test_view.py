"""`echofm view`: one page of film strips that play, from a folder and from shards, to be filtered and sorted."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from hearts import beating_heart, write_avi
from shardfolder import write_hearts

from echofm.errors import EchofmError
from echofm.view.cli import main


def cards(page: str) -> list[dict[str, object]]:
    return [json.loads(html.unescape(each)) for each in re.findall(r'data-fields="([^"]*)"', page)]


def test_a_folder_becomes_one_page_without_names_that_loads_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "Janet").mkdir(parents=True)
    for seed in range(3):
        write_avi(folder / "Janet" / f"scan{seed}.avi", beating_heart(frames=30, size=48, seed=seed)[0])
    write_avi(folder / "copy.avi", beating_heart(frames=30, size=48, seed=1)[0], codec="mpeg4")
    (folder / "broken.avi").write_bytes(b"RIFF, but no video")
    lines = [
        "path,view,ef_percent",
        *(f"Janet/scan{seed}.avi,A4C,{50 + seed}" for seed in range(3)),
        "copy.avi,A2C,51",
        "broken.avi,,",
    ]
    (folder / "manifest.csv").write_text("\n".join(lines))
    out = tmp_path / "view.html"
    assert main([str(folder), "--out", str(out), "--processes", "1", "--size", "48"]) == 0
    page = out.read_text()
    found = cards(page)
    assert sorted(each["ef_percent"] for each in found) == [50, 51, 51, 52]
    assert sum("the same recording" in str(each["finding"]) for each in found) == 2
    assert page.count("data:image/webp") >= 8 and "<option>A4C</option>" in page
    assert "Janet" not in page and "scan" not in page and "http:" not in page and "https:" not in page
    digest = re.search(r"script-src '(sha256-[^']+)'", page)
    assert digest is not None and page.count("<script>") == 1
    assert main([str(folder), "--out", str(out), "--processes", "1", "--size", "48"]) == 0
    assert out.read_text() == page


def test_shards_show_a_split_and_no_more_than_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hearts(tmp_path / "shards", 12, size=32)
    assert main([str(tmp_path / "shards"), "--out", str(tmp_path / "v.html"), "--most", "3"]) == 0
    found = cards((tmp_path / "v.html").read_text())
    assert len(found) == 3 and all(each["split"] in ("train", "val", "test") for each in found)
    assert capsys.readouterr().out == "3 clips, 0 files set aside\n"
    assert main([f"{tmp_path / 'shards'}:train", "--out", str(tmp_path / "v.html")]) == 0
    assert {each["split"] for each in cards((tmp_path / "v.html").read_text())} == {"train"}
    for words, says in (([str(tmp_path / "nowhere")], "no such folder"), ([str(tmp_path), "--most", "0"], "1 or more")):
        with pytest.raises(EchofmError, match=says):
            main(words)


def test_a_page_speaks_of_a_choice_only_where_clips_were_left_out_for_their_number(tmp_path: Path) -> None:
    folder, out = tmp_path / "set", tmp_path / "view.html"
    folder.mkdir()
    for seed in range(4):
        write_avi(folder / f"scan{seed}.avi", beating_heart(frames=8, size=48, seed=seed)[0])
    (folder / "broken.avi").write_bytes(b"RIFF, but no video")
    splits = ["train", "train", "train", "test"]
    lines = [*(f"scan{seed}.avi,p{seed},{split}" for seed, split in enumerate(splits)), "broken.avi,p9,test"]
    (folder / "manifest.csv").write_text("\n".join(["path,patient,split", *lines]))
    more = ["--out", str(out), "--processes", "1", "--size", "48"]
    assert main([str(folder), *more]) == 0 and "--most" not in out.read_text(), "a broken file is no clip left out"
    assert main([f"{folder}:train", *more]) == 0 and "--most" not in out.read_text(), "nor is another split's"
    assert main([f"{folder}:train", "--most", "2", *more]) == 0
    page = out.read_text()
    assert len(cards(page)) == 2 and "spread evenly over 3;" in page
    with pytest.raises(EchofmError, match="no clip of this set is in val"):
        main([f"{folder}:val", *more])
