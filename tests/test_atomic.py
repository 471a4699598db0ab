"""Whole files and folders or nothing, under any umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from echofm.atomic import clear_parts, whole_file, whole_files, whole_folder, write_whole


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def killed_after_writing(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rights_follow_the_umask(umask: int, tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.txt", "é")
    with whole_file(tmp_path / "new" / "w.safetensors") as part:
        save_file({"x": torch.ones(2)}, part)
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "b").write_bytes(b"b")
    files = [tmp_path / "new" / "a.txt", tmp_path / "new" / "w.safetensors", tmp_path / "folder" / "b"]
    assert [mode(path) for path in files] == [0o666 & ~umask] * 3
    assert [mode(tmp_path / name) for name in ("new", "folder")] == [0o777 & ~umask] * 2
    assert files[0].read_bytes() == "é".encode() and load_file(files[1])["x"].sum() == 2


@pytest.mark.parametrize("durable", [True, False])
def test_a_failure_leaves_the_older_files(durable: bool, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_whole(tmp_path / name, f"old {name}", durable=durable)
    with pytest.raises(KeyboardInterrupt), whole_files([tmp_path / "a", tmp_path / "b"], durable=durable) as (a, _):
        killed_after_writing(a)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old a", "b": "old b"}


def test_files_of_one_whole_appear_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"), whole_files([tmp_path / "a", tmp_path / "b"]) as (a, _):
        a.write_text("new")
    assert not list(tmp_path.iterdir())


def test_folders_are_whole_and_replaced_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "f") as part:
        killed_after_writing(part / "a")
    assert not list(tmp_path.iterdir())
    for content in ("one", "two"):
        with whole_folder(tmp_path / "f", replace=True) as part:
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["two"]
    with pytest.raises(OSError), whole_folder(tmp_path / "f") as part:
        (part / "three").write_text("three")
    assert [path.name for path in tmp_path.iterdir()] == ["f"] and (tmp_path / "f" / "two").exists()


def test_an_older_folder_comes_back_where_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole_folder(tmp_path / "f") as part:
        (part / "old").write_text("old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == ".f.part":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="No space"), whole_folder(tmp_path / "f", replace=True) as part:
        (part / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["f", "old"]


def test_what_a_kill_left_is_written_over_or_cleared(tmp_path: Path) -> None:
    (tmp_path / ".a.part").write_text("half")
    (tmp_path / ".f.part").mkdir()
    write_whole(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole" and not (tmp_path / ".a.part").exists()
    (tmp_path / ".b.part").write_text("half")
    clear_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
