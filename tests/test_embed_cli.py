"""`echofm embed`: files, folders and shards; what is set aside; going on after a stop; several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pydicom.examples
import pytest
import torch
from hearts import beating_heart, write_avi
from test_readers_images import screen

from echofm.contract import InputContract
from echofm.embed import run as run_module
from echofm.embed.cli import main
from echofm.embed.extract import Extractor
from echofm.embed.run import EmbedRun, Outcome, SetAside
from echofm.embed.set_aside import file_positions
from echofm.embed.table import EmbeddingTable
from echofm.embed.videos import open_videos
from echofm.errors import EchofmError
from echofm.hub import load_encoder, save_model
from echofm.ids import load_key
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.readers.datasets import open_source
from echofm.shards.write import write_shards

TABLE = {"features.safetensors", "rows.parquet", "meta.json", "request.json", "set_aside.jsonl"}
NAMES = ("Planted", "Jane", "MRN778899", "JaneDoe")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = VideoMae(NetworkConfig(
        size=32, frames=8, channels=1, patch=8, tubelet=2, width=32, depth=2, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip
    contract = InputContract(size=32, frames=8, frame_rate_hz=25.0)
    return save_model(net, tmp_path_factory.mktemp("encoder"), contract=contract, card={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of six patients: AVI of several lengths and a DICOM."""
    path = tmp_path_factory.mktemp("clips")
    for seed in range(6):
        frames_THW, _ = beating_heart(frames=10 + 9 * seed, size=48, seed=seed)
        write_avi(path / f"JaneDoe{seed}.avi", frames_THW)
    named_dicom(path / "Planted_Jane.dcm")
    return path


def named_dicom(path: Path, **changes: object) -> Path:
    """The public sample cine, with a patient's name in its tags."""
    dataset = pydicom.dcmread(pydicom.examples.get_path("ybr_color"))
    dataset.PatientName, dataset.PatientID = "Planted^Jane", "MRN778899"
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def embedded(encoder: Path, src: Path, out: Path, *options: str) -> EmbeddingTable:
    main([str(encoder), str(src), str(out), "--processes", "1", *options])
    return EmbeddingTable.load(out)


def same(one: EmbeddingTable, other: EmbeddingTable, *, tolerance: float = 1e-6) -> None:
    """Equal rows and features, whatever the order of the clips."""
    first, second = one.select(np.argsort(one.clip_id)), other.select(np.argsort(other.clip_id))
    pd.testing.assert_frame_equal(first.rows, second.rows)
    np.testing.assert_allclose(first.video_ND, second.video_ND, atol=tolerance)
    assert first.phase is not None and second.phase is not None
    np.testing.assert_allclose(first.phase.feature_PD, second.phase.feature_PD, atol=tolerance)
    np.testing.assert_allclose(first.phase.time_s_P, second.phase.time_s_P, atol=1e-9)
    np.testing.assert_array_equal(first.phase.start_N1, second.phase.start_N1)


def test_a_file_a_folder_and_shards_give_the_same(encoder: Path, folder: Path, tmp_path: Path) -> None:
    whole = embedded(encoder, folder, tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == TABLE
    assert len(whole) == 7 and set(whole.rows["dataset"]) == {"folder"}

    single = embedded(encoder, folder / "JaneDoe3.avi", tmp_path / "file")
    same(single, whole.select(whole.clip_id == single.clip_id[0]))

    write_shards(open_source(folder), tmp_path / "shards", size=32, frame_rate_hz=None, show_progress=False)
    same(embedded(encoder, tmp_path / "shards", tmp_path / "native"), whole)
    # At the encoder's rate in the shards already: the same frames; only the source's own rate is no longer known.
    write_shards(open_source(folder), tmp_path / "shards25", size=32, frame_rate_hz=25.0, show_progress=False)
    slow = embedded(encoder, tmp_path / "shards25", tmp_path / "slow")
    rates = slow.rows["frame_rate_hz"].to_numpy()
    np.testing.assert_allclose(rates, 25)
    restored = whole.rows.set_index("clip_id")["frame_rate_hz"].loc[slow.rows["clip_id"]].to_numpy()
    slow.rows["frame_rate_hz"] = restored
    same(slow, whole)


def test_one_split_of_a_patient_is_all_files_split_and_two_are_refused(encoder: Path, tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    for seed in range(4):
        write_avi(src / f"{seed}.avi", beating_heart(frames=12, size=48, seed=seed)[0])
    lines = ["0.avi,Jane,", "1.avi,Jane,test", "2.avi,Joe,train", "3.avi,Joe,"]
    (src / "manifest.csv").write_text("\n".join(["path,patient,split", *lines]))
    table = embedded(encoder, src, tmp_path / "out")
    key = load_key()
    assert dict(zip(table.patient_id, table.split)) == {key.patient("Jane"): "test", key.patient("Joe"): "train"}
    assert list(table.split).count("test") == 2
    write_shards(open_source(src), tmp_path / "shards", size=32, frame_rate_hz=None, show_progress=False)
    same(embedded(encoder, tmp_path / "shards", tmp_path / "again"), table)

    write_avi(src / "4.avi", beating_heart(frames=12, size=48, seed=4)[0])
    (src / "manifest.csv").write_text("\n".join(["path,patient,split", *lines, "4.avi,Jane,val"]))
    with pytest.raises(EchofmError, match=f"patient {key.patient('Jane')} is in two splits") as caught:
        main([str(encoder), str(src), str(tmp_path / "refused")])
    assert "Jane" not in str(caught.value) and not (tmp_path / "refused").exists()


def test_no_name_survives(encoder: Path, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    src = tmp_path / "JaneDoe_1950"
    shutil.copytree(folder, src)
    (src / "Planted_broken.avi").write_bytes(b"Planted")
    assert main([str(encoder), str(src), str(tmp_path / "out"), "--processes", "1"]) == 1
    reported = capfd.readouterr()
    for name in NAMES:
        assert name not in reported.out + reported.err
        for path in (tmp_path / "out").rglob("*"):
            assert name.encode() not in path.read_bytes(), f"{name} in {path.name}"
    table = EmbeddingTable.load(tmp_path / "out")
    assert load_key().patient("MRN778899") in table.patient_id


def test_broken_files_are_set_aside(
    encoder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = tmp_path / "src"
    shutil.copytree(folder, src)
    (src / "empty.avi").write_bytes(b"")
    (src / "text.avi").write_text("not a video")
    shutil.copy(src / "JaneDoe0.avi", src / "again.avi")
    assert main([str(encoder), str(src), str(tmp_path / "out"), "--processes", "1"]) == 1
    assert "3 files set aside" in capsys.readouterr().out
    aside = [json.loads(line) for line in (tmp_path / "out" / "set_aside.jsonl").read_text().splitlines()]
    key = load_key()
    by_file = {each["file_id"]: each["reason"] for each in aside}
    assert set(by_file) >= {key.file(src / "empty.avi"), key.file(src / "text.avi")}
    copies = {key.file(src / name) for name in ("again.avi", "JaneDoe0.avi")} & set(by_file)
    assert len(copies) == 1 and "exact copy of clip" in by_file[copies.pop()]
    assert len(EmbeddingTable.load(tmp_path / "out")) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "file "),
        (lambda path: path.write_text("no echo"), "file "),
        (lambda path: None, "no folder, manifest or file"),
    ],
)
def test_one_bad_file_is_one_line(encoder: Path, tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    bad = tmp_path / "JaneDoe.avi"
    make(bad)
    with pytest.raises(EchofmError, match=message) as caught:
        main([str(encoder), str(bad), str(tmp_path / "out")])
    # A path that is not there is the user's own word.
    assert "\n" not in str(caught.value) and (not bad.exists() or "Jane" not in str(caught.value))
    assert not (tmp_path / "out").exists()


def test_a_file_of_two_images_has_two_rows_and_a_copy_of_the_table_knows(encoder: Path, tmp_path: Path) -> None:
    screen(tmp_path / "dual.dcm", 2)
    tables = [embedded(encoder, tmp_path / "dual.dcm", tmp_path / name) for name in ("out", "again")]
    for table, name in zip(tables, ("out", "again")):
        assert len(set(table.clip_id)) == 2 and set(table.rows["patient_id"]) == {load_key().patient("4711")}
        assert {path.name for path in (tmp_path / name).iterdir()} == TABLE | {"several.json"}
        positions = file_positions(table.clip_id.tolist(), tmp_path / name, [load_key().file(tmp_path / "dual.dcm")])
        assert list(positions.values()) == [(0, 0), (0, 1)]


def test_unknown_frame_rate_is_reported(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named_dicom(tmp_path / "cine.dcm", FrameTime=None, FrameIncrementPointer=None)
    table = embedded(encoder, tmp_path / "cine.dcm", tmp_path / "out")
    assert "1 clips have no frame times" in capsys.readouterr().out
    assert np.isnan(table.rows["frame_rate_hz"][0])
    assert table.phase is not None and np.isnan(table.phase.time_s_P).all()


def test_a_second_call_finds_the_table_and_another_request_is_refused(
    encoder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [str(encoder), str(folder / "JaneDoe1.avi"), str(out)]
    assert main(command) == 0
    before, reported = (out / "features.safetensors").stat().st_mtime_ns, capsys.readouterr().out
    assert main(command) == 0
    assert (out / "features.safetensors").stat().st_mtime_ns == before and capsys.readouterr().out == reported
    assert {path.name for path in out.iterdir()} == TABLE
    with pytest.raises(EchofmError, match="another encoder, input or option"):
        main([*command, "--windows", "1"])
    with pytest.raises(EchofmError, match="is no embedding run"):
        main([str(encoder), str(folder), str(folder)])


@pytest.mark.parametrize("limit", ["--max-clip-mb", "--max-seconds"])
def test_a_table_of_other_limits_is_not_taken_for_the_one_asked_for(
    encoder: Path, folder: Path, tmp_path: Path, limit: str
) -> None:
    src = tmp_path / "src"
    src.mkdir()
    for seed in (0, 5):
        shutil.copy(folder / f"JaneDoe{seed}.avi", src)
    command = [str(encoder), str(src), str(tmp_path / "out"), "--processes", "1"]
    # The longer clip, of 55 frames of 48 x 48, is above it.
    low = "0.1" if limit == "--max-clip-mb" else "60"
    assert main([*command, limit, low]) == (1 if limit == "--max-clip-mb" else 0)
    with pytest.raises(EchofmError, match="another encoder, input or option"):
        main(command)
    assert main([*command, limit, low]) == (1 if limit == "--max-clip-mb" else 0)
    shutil.rmtree(tmp_path / "out")
    assert len(embedded(encoder, src, tmp_path / "out")) == 2


def make_run(encoder: Path, folder: Path, out: Path, *, rank: int = 0, world: int = 1) -> EmbedRun:
    loaded = load_encoder(encoder)
    source = open_videos(folder, show_progress=False).input(loaded.contract)
    return EmbedRun(out, source, Extractor(encoder=loaded, batch=4), rank=rank, world=world, show_progress=False)


def test_parts_of_another_release_are_not_mixed_in(
    encoder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(run_module, "__version__", "0.0.1")
        begun, finished = (make_run(encoder, folder, tmp_path / name) for name in ("begun", "finished"))
        for run in (begun, finished):
            run.prepare()
        finished.embed()
        finished.merge()
    with pytest.raises(EchofmError, match="was begun by another release"):
        begun.prepare()
    finished.prepare()


def test_ranks_and_stops_do_not_show(
    encoder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_LEAST_CLIPS", 2)
    plain = make_run(encoder, folder, tmp_path / "plain")
    plain.prepare()
    plain.embed()
    assert plain.merge().clips == 7

    # The second of two ranks does its parts; then everything dies; then one process finishes.
    second = make_run(encoder, folder, tmp_path / "stopped", rank=1, world=2)
    second.prepare()
    second.embed()
    parts = sorted(path.name for path in (tmp_path / "stopped" / "parts").iterdir())
    assert parts == ["000001", "000003"]
    (tmp_path / "stopped" / "parts" / "000000.draft").mkdir()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "stopped" / "parts").glob("*/features.safetensors")}
    again = make_run(encoder, folder, tmp_path / "stopped")
    again.prepare()
    again.embed()
    assert len(done) == 2 and all(path.stat().st_mtime_ns == when for path, when in done.items())
    again.merge()
    for name in ("features.safetensors", "rows.parquet", "meta.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not (tmp_path / "stopped" / "parts").exists()


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    encoder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [str(encoder), str(folder / "JaneDoe1.avi"), str(tmp_path / "out"), "--processes", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_tables", _full)
        with pytest.raises(EchofmError, match=r"No space left.*goes on from here") as caught:
            main(command)
        assert "\n" not in str(caught.value)
    assert main(command) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLE


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_nothing_readable_is_an_error(encoder: Path, tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    for name in ("a.avi", "b.avi"):
        (src / name).write_bytes(b"")
    with pytest.raises(EchofmError, match="none of the 2 files can be read"):
        main([str(encoder), str(src), str(tmp_path / "out")])


def test_tokens_on_the_command_line(encoder: Path, folder: Path, tmp_path: Path) -> None:
    table = embedded(encoder, folder, tmp_path / "out", "--tokens", "2,2,2")
    assert table.tokens is not None and table.tokens.feature_NTRCD.shape == (7, 2, 2, 2, 32)
    assert table.settings["tokens"] == "2,2,2"


@pytest.mark.parametrize("command", ["phantom", "shards", "check", "pretrain", "embed", "probe", "audit"])
def test_help_needs_no_torch(command: str) -> None:
    code = (
        "import sys; from echofm.cli import main\n"
        f"try: main([{command!r}, '--help'])\nexcept SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"echofm {command}" in done.stdout


@pytest.mark.slow
def test_two_processes_equal_one(encoder: Path, folder: Path, tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    # More than one part of 32 clips, so that both processes have work.
    frames_THW, _ = beating_heart(frames=80, size=48)
    for number in range(40):
        write_avi(src / f"{number}.avi", frames_THW[number : number + 36])
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    command = ["-m", "echofm.cli", "embed", str(encoder), str(src)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command]
    for words in (
        [sys.executable, *command, str(tmp_path / "one")],
        [*launch, str(tmp_path / "two"), f"--cache={tmp_path}"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240)
        assert done.returncode == 0, done.stderr
    assert len(EmbeddingTable.load(tmp_path / "one")) == 40
    for name in ("features.safetensors", "rows.parquet", "meta.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_the_gpu_gives_the_features_of_the_cpu(
    encoder: Path, folder: Path, tmp_path: Path, precision: str, tolerance: float
) -> None:
    cpu = embedded(encoder, folder, tmp_path / "cpu", "--device", "cpu")
    cuda = embedded(encoder, folder, tmp_path / "cuda", "--device", "cuda", "--precision", precision)
    same(cpu, cuda, tolerance=tolerance)


def test_intact_objects_of_other_kinds_are_counted_by_kind_and_are_no_finding() -> None:
    aside = [SetAside("a", "why", "spectral"), SetAside("b", "why", "spectral"), SetAside("c", "why", "dicomdir")]
    outcome = Outcome(clips=4, set_aside=aside, without_times=0)
    assert not outcome.unused and "no image of a heart: 1 dicomdir, 2 spectral" in outcome.summary(Path("out"))
    looked_at = Outcome(
        clips=4, set_aside=[*aside, SetAside("d", "cut"), SetAside("e", "why", "no_sector")], without_times=0
    )
    assert len(looked_at.unused) == 2 and "2 files set aside" in looked_at.summary(Path("out"))
