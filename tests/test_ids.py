"""This user's own id key: made once, whole, for this user alone, on any file system."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from echofm import ids


def _made(path: Path) -> bytes:
    ids._make(path)
    return path.read_bytes()


def test_many_who_make_the_key_at_once_agree_and_find_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "echofm" / "id.key"
    with ThreadPoolExecutor(16) as pool:
        (key,) = set(pool.map(_made, [path] * 200))
    assert len(key.strip()) == 64 and list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_system_without_links_keeps_the_key_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", without)
    path = tmp_path / "id.key"
    assert _made(path) == _made(path) != b"" and list(tmp_path.iterdir()) == [path]


def test_a_process_that_dies_while_it_makes_the_key_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ids.secrets, "token_hex", full)
    with pytest.raises(OSError, match="No space"):
        ids._make(tmp_path / "id.key")
    assert not list(tmp_path.iterdir())
