"""Shards that were cut, changed or forged: one line naming shard and reason, nothing run, nothing written elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shardfolder import write_hearts

from echofm.errors import EchofmError
from echofm.shards.loader import train_batches
from echofm.shards.read import ShardSet

NAME = "train-000000.tar"
ID = "0123456789abcdef0123"
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "shards"
    write_hearts(out, 3, size=8, split_by="none")
    return out


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "shards"))


def sign(folder: Path, **changes: Any) -> None:
    """Make the manifest agree with the tar as it is now: a forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / NAME).read_bytes()
    manifest["tars"][0].update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **changes)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0), *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=allow_pickle)
    return stream.getvalue()


def meta(**changes: Any) -> bytes:
    good = {
        "schema_version": 1,
        "clip_id": ID,
        "patient_id": ID,
        "split": "train",
        "dataset": "x",
        "view": None,
        "kind": "bmode",
        "labels": {},
        "frame_rate_hz": 50.0,
        "pixel_spacing_mm": None,
    }
    return json.dumps({**good, **changes}).encode()


def clip(**changes: bytes | None) -> dict[str, bytes]:
    good = {
        "frames.npy": npy(np.zeros((5, 1, 8, 8), np.uint8)),
        "meta.json": meta(),
        "sector.npy": npy(np.ones((8, 8), bool)),
        "time.npy": npy(np.arange(5) / 50),
    }
    merged = {**good, **{name.replace("_", "."): data for name, data in changes.items()}}
    return {name: data for name, data in merged.items() if data is not None}


def forge(
    folder: Path, files: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] | None = None
) -> None:
    """A signed tar of these members; `change` may alter the last one's header."""
    with tarfile.open(folder / NAME, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None and name == files[-1][0]:
                change(info)
            tar.addfile(info, io.BytesIO(data))
    sign(folder, clips=1)


def named(files: dict[str, bytes], clip_id: str = ID) -> list[tuple[str, bytes]]:
    return [(f"{clip_id}.{suffix}", data) for suffix, data in files.items()]


def assert_refused(folder: Path, reason: str, shard: str = f"shard {NAME}") -> None:
    before = sorted(path for path in folder.parent.rglob("*"))
    with pytest.raises(EchofmError, match=reason) as caught:
        list(ShardSet.open(folder))
    assert str(caught.value).startswith(shard) and "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert sorted(path for path in folder.parent.rglob("*")) == before


def test_the_forger_of_this_test_can_make_a_sound_shard(folder: Path) -> None:
    forge(folder, named(clip()))
    (only,) = ShardSet.open(folder)
    assert only.clip_id == ID and only.frames_TCHW.shape == (5, 1, 8, 8)


@pytest.mark.parametrize("cut", [1, 511, 10240, 15_000])
def test_cut(folder: Path, cut: int) -> None:
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert_refused(folder, "cut or changed; copy it again")


def test_cut_and_signed(folder: Path) -> None:
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:8_000])
    sign(folder)
    assert_refused(folder, "copy it again")


@pytest.mark.parametrize("where", [0, 300, 700, 5_000, -1])
def test_flipped_byte(folder: Path, where: int) -> None:
    ShardSet.open(folder)  # A stamp from before must not hide the change.
    data = bytearray((folder / NAME).read_bytes())
    data[where] ^= 1
    (folder / NAME).write_bytes(data)
    assert_refused(folder, "sha256 differs")


def test_a_change_that_keeps_size_and_time_is_found_when_asked(folder: Path) -> None:
    ShardSet.open(folder)
    path = folder / NAME
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(5_000)
        file.write(b"\xff\x00\xff")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(EchofmError, match="sha256 differs"):
        ShardSet.open(folder, verify="always")


@pytest.mark.parametrize(
    "name", [f"../{ID}.frames.npy", f"/tmp/{ID}.frames.npy", f"a/../../{ID}.frames.npy", f"a/{ID}.meta.json"]
)
def test_names_that_lead_elsewhere(folder: Path, name: str) -> None:
    forge(folder, [*named(clip()), (name, b"x")])
    assert_refused(folder, "is not named")


@pytest.mark.parametrize(
    "suffix", ["pkl", "pyd", "pth", "frames.npz", "frames.npy.gz", "tar", "FRAMES.npy", "extra.npy"]
)
def test_unknown_members(folder: Path, suffix: str) -> None:
    forge(folder, [*named(clip()), (f"{ID}.{suffix}", b"x")])
    assert_refused(folder, "is not named")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_devices_and_extensions(folder: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    forge(folder, [*named(clip()), (f"{ID}.phase.npy", b"")], change)
    assert_refused(folder, "link, device or folder")


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("/tmp/echofm-test-bomb"),)


def test_pickles_are_never_opened(folder: Path) -> None:
    forge(folder, named(clip(frames_npy=npy(np.array([Bomb()], object), allow_pickle=True))))
    assert_refused(folder, "pickled objects; refused")
    forge(folder, named(clip(frames_npy=pickle.dumps(Bomb()))))
    assert_refused(folder, "no sound .npy header")
    forge(folder, named(clip(meta_json=pickle.dumps(Bomb()))))
    assert_refused(folder, "Invalid JSON")
    assert not Path("/tmp/echofm-test-bomb").exists()


def header(text: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode() + data


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (3000000, 1, 600, 800)}"), "not the bytes"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 1, 8, 8)}"), "header|not"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 1, 8, 8)}"), "not"),
        (header("{'descr': '|u1', 'fortran_order': True, 'shape': (1, 1, 8, 8)}", bytes(64)), "not"),
        (header("__import__('os').system('true')"), "no sound"),
        (header("(" * 60_000), "no sound"),
        # numpy takes it for a header of Python 2 and hands it to tokenize.
        (header("{'descr': '|u1', 'fortran_order'[ False, 'shape': (1, 1, 8, 8)}", bytes(64)), "no sound"),
        (
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 8, 8)}" + " " * 60_000, bytes(64)),
            "no sound",
        ),
        (b"\x93NUMPY\x01\x00\xff", "no sound"),
        (b"\x93NUMPY", "no sound"),
        (npy(np.zeros((5, 1, 8, 8), np.uint8), (2, 0)), "no sound"),
        (npy(np.zeros((5, 1, 8, 8), np.float64)), "not |u1 TCHW"),
        (npy(np.zeros((5, 8, 8), np.uint8)), "rank 3"),
        (npy(np.zeros((5, 2, 8, 8), np.uint8)), "does not fit"),
        (npy(np.zeros((1, 1, 3000, 3000), np.uint8)), "does not fit"),
        (npy(np.zeros((5, 1, 8, 9), np.uint8)), "does not fit"),
        (npy(np.zeros((5, 1, 8, 8), np.uint8)) + b"more", "not the bytes"),
        (npy(np.zeros((5, 1, 8, 8), [("a", "u1")])), "not"),
    ],
)
def test_array_headers(folder: Path, frames: bytes, reason: str) -> None:
    forge(folder, named(clip(frames_npy=frames)))
    assert_refused(folder, reason)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"[" * 60_000, "Invalid JSON"),
        (b" " * 70_000, "64 KiB"),
        (meta(clip_id="f" * 20), "another clip"),
        (meta(split="val"), "another clip or split"),
        (meta(split="dev"), "split"),
        (meta(patient_id="Jane Doe"), "patient_id"),
        (meta(patient_name="Jane Doe"), "Extra inputs"),
        (meta(schema_version=2), "schema_version"),
        (meta(labels={"ef_percent": [1, 2]}), "labels"),
        (meta(labels={"EF %": 1.0}), "labels"),
        (meta().replace(b"50.0", b"NaN"), "frame_rate_hz|JSON"),
        (meta().replace(b"50.0", b"-1"), "frame_rate_hz"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_descriptions(folder: Path, description: bytes, reason: str) -> None:
    forge(folder, named(clip(meta_json=description)))
    assert_refused(folder, reason)
    with pytest.raises(EchofmError) as caught:
        ShardSet.open(folder)
    assert "Jane" not in str(caught.value)


def test_members_that_do_not_make_a_clip(folder: Path) -> None:
    forge(folder, named(clip(sector_npy=None)))
    assert_refused(folder, "lacks sector.npy")
    forge(folder, [*named(clip()), (f"{ID}.time.npy", npy(np.arange(5) / 50))])
    assert_refused(folder, "time.npy twice")
    other = "f" * 20
    forge(folder, [*named(clip()), *named(clip(meta_json=meta(clip_id=other)), other), (f"{ID}.phase.npy", b"x")])
    assert_refused(folder, "comes twice")
    forge(folder, [*named(clip()), *named(clip(meta_json=meta(clip_id=other)), other)])
    assert_refused(folder, "holds 2 clips, the manifest says 1")


@pytest.mark.parametrize(
    "times", [[0, 0.1, 0.1, 0.2, 0.3], [0, 1, 2, 3, np.nan], [0, 1, 2, 3, np.inf], [4, 3, 2, 1, 0]]
)
def test_times_that_do_not_increase(folder: Path, times: list[float]) -> None:
    forge(folder, named(clip(time_npy=npy(np.array(times, np.float64)))))
    assert_refused(folder, "do not increase")


@pytest.mark.parametrize("size", [2**33, 10**12, -5, 0])
def test_member_sizes(folder: Path, size: int) -> None:
    forge(folder, named(clip()))
    data = bytearray((folder / NAME).read_bytes())
    info = tarfile.TarInfo(f"{ID}.frames.npy")
    info.size = size
    data[:512] = info.tobuf(tarfile.GNU_FORMAT)
    (folder / NAME).write_bytes(data)
    sign(folder)
    assert_refused(folder, "past the end|negative size")


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(512), bytes(10240 * 5), b"\x1f\x8b" + bytes(2000), bytes(1024) + b"x" * 1024]
)
def test_what_is_no_tar(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    sign(folder, clips=1)
    assert_refused(folder, "tar|member|holds 0 clips")


def test_a_patient_in_two_splits(folder: Path) -> None:
    forge(folder, named(clip()))
    other = "f" * 20
    (folder / "tmp").mkdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / NAME).rename(folder / "tmp" / NAME)
    forge(folder, named(clip(meta_json=meta(clip_id=other, split="val")), other))
    (folder / NAME).rename(folder / "val-000000.tar")
    (folder / "tmp" / NAME).rename(folder / NAME)
    val = json.loads((folder / "manifest.json").read_text())["tars"][0]
    manifest["tars"].append({**val, "name": "val-000000.tar", "split": "val"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sign(folder, clips=1)
    assert_refused(folder, "is in two splits", shard="shard val-000000.tar")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../../train-000000.tar"),
        ("name", "/etc/passwd"),
        ("name", "pipe:touch /tmp/echofm-test-bomb"),
        ("name", "http://example.org/train-000000.tar"),
        ("name", "val-000000.tar"),
        ("sha256", "0"),
        ("bytes", -1),
        ("bytes", "12"),
        ("clips", 1.5),
        ("url", "x"),
    ],
)
def test_manifest_entries(folder: Path, field: str, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tars"][0][field] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(folder, "manifest.json: ", shard="manifest.json")
    assert not Path("/tmp/echofm-test-bomb").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"schema_version": 2}', "\0" * 100])
def test_manifests_that_are_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert_refused(folder, "manifest.json: ", shard="manifest.json")


def test_missing_and_stray_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="no manifest"):
        ShardSet.open(tmp_path)
    shutil.copy(folder / NAME, folder / "train-000007.tar")
    with pytest.raises(EchofmError, match=r"1 tar\(s\) in the folder are not in the manifest"):
        ShardSet.open(folder)
    (folder / "train-000007.tar").unlink()
    (folder / NAME).unlink()
    assert_refused(folder, "not in the folder")


@pytest.mark.parametrize("place", ["pipe:cat x", "https://example.org/shards", "s3://bucket/shards", "hf://datasets/x"])
def test_only_local_folders(place: str) -> None:
    with pytest.raises(EchofmError, match="copy the folder here first"):
        ShardSet.open(place)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_cut_while_open_is_one_line_not_a_crash(folder: Path, workers: int) -> None:
    batches = train_batches(ShardSet.open(folder), frames=8, frame_rate_hz=50, batch=2, seed=0, workers=workers)
    next(batches)
    with open(folder / NAME, "r+b") as file:
        file.truncate(5000)
    with pytest.raises(EchofmError, match=r"\Ashard train-000000.tar: ends too early.*copy it again\Z"):
        list(itertools.islice(batches, 8))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_only_our_error_comes(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "shards"
    shutil.copytree(sound, folder)
    content = bytearray((folder / NAME).read_bytes())
    heads = [offset for offset in range(0, len(content), 512) if content[offset + 257 : offset + 262] == b"ustar"]
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.sampled_from(heads)) + data.draw(st.integers(0, 700))
        content[offset] = data.draw(st.integers(0, 255))
    (folder / NAME).write_bytes(content)
    # Whatever else is raised fails the test.
    with contextlib.suppress(EchofmError):
        list(ShardSet.open(folder, verify="never"))
    shutil.rmtree(folder)


def test_notes_that_cannot_be_kept_are_reported(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    monkeypatch.setenv("ECHOFM_HOME", str(tmp_path / "home"))
    with pytest.raises(EchofmError, match="set ECHOFM_HOME to a folder of your own"):
        ShardSet.open(sound)
