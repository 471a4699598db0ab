"""One id for a clip, its row, its shard and its file; `echofm names` leads back."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path

import pytest
from hearts import beating_heart, write_avi

from echofm import read_clip
from echofm.cli import main
from echofm.embed.table import EmbeddingTable
from echofm.ids import file_id
from echofm.names import write_names
from echofm.shards.read import ShardSet


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ward")
    (root / "in").mkdir()
    for number in range(2):
        write_avi(root / f"in/exam_{number}.avi", beating_heart(frames=12 + number, size=96, seed=number)[0])
    (root / "in" / "broken.avi").write_bytes(b"RIFF")
    return root


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_ids_join_and_lead_back(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = str(ward / "in")
    assert main(["shards", source, str(tmp_path / "s"), "--size", "64", "--max-bad", "1", "--split-by", "none"]) == 0
    cache = ["--cache", str(tmp_path / "cache")]
    assert main(["embed", "pixels", source, str(tmp_path / "t"), "--no-phase", "--processes", "1", *cache]) == 1
    capsys.readouterr()
    assert main(["names", source, "--processes", "1"]) == 0
    names = {Path(line["path"]).name: line for line in lines(capsys.readouterr().out)}
    rows = EmbeddingTable.load(tmp_path / "t").rows.set_index("clip_id")
    shards = {record.clip_id: record.meta.patient_id for record in ShardSet.open(tmp_path / "s").records}
    for number in range(2):
        path = ward / "in" / f"exam_{number}.avi"
        clip, line = read_clip(path), names[path.name]
        assert (line["clip_id"], line["patient_id"], line["file_id"]) == (clip.clip_id, clip.patient_id, file_id(path))
        assert rows.loc[clip.clip_id, "patient_id"] == shards[clip.clip_id] == clip.patient_id
    assert names["broken.avi"]["clip_id"] == ""


@pytest.mark.parametrize("kind", ["clip_id", "patient_id", "file_id"])
def test_some_ids_alone(ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str) -> None:
    path = ward / "in" / "exam_1.avi"
    wanted = {"clip_id": read_clip(path).clip_id, "patient_id": read_clip(path).patient_id, "file_id": file_id(path)}
    out = tmp_path / "names.csv"
    assert main(["names", str(ward / "in"), "--ids", wanted[kind], "0" * 20, "--out", str(out)]) == 1
    assert [Path(line["path"]) for line in lines(out.read_text())] == [path]
    assert "0" * 20 in capsys.readouterr().err and stat.S_IMODE(out.stat().st_mode) == 0o600


def test_real_names_are_the_owners_alone_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rights = []
    replaced = os.replace
    monkeypatch.setattr(
        os, "replace", lambda part, final: (rights.append(os.stat(part).st_mode), replaced(part, final))
    )
    write_names(tmp_path / "names.csv", [])
    assert [stat.S_IMODE(each) for each in rights] == [0o600]
