"""From videos and shards to report and kept set: copies found by features and by speckle, canaries, cache, filter."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hearts import beating_heart, write_avi
from rich.console import Console

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import save_model
from echofm.ids import IdKey
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.readers.datasets import open_source
from echofm.readers.read import read_row
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards
from synth.audit.canaries.transforms import plan
from synth.audit.cli import main
from synth.audit.report.strips import FRAMES, together
from synth.audit.result import AuditResult
from synth.audit.sets import KIND

TRAINING, HELD_OUT = range(6), range(100, 108)
NAMES = ("Plantedname", "Janet")


def mae(channels: int = 1) -> VideoMae:
    return VideoMae(NetworkConfig(
        size=48, frames=8, channels=channels, patch=8, tubelet=2, width=32, depth=2, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2, predicted_frames=4,
    ))  # fmt: skip


def heart(seed: int) -> np.ndarray:
    return beating_heart(frames=24, size=64, seed=seed)[0]


def shards(out: Path, seeds: range) -> Path:
    """Shards of hearts, read from files in this process."""
    files = out.with_name(f"Plantedname-{out.name}")
    files.mkdir()
    for seed in seeds:
        write_avi(files / f"Janet-{seed}.avi", heart(seed))

    def read(row: Row) -> Clip:
        return read_row(row)

    write_shards(open_source(files), out, size=48, frame_rate_hz=None, split_by="none", kinds=("all",), read=read)
    return out


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """encoder, train and holdout (shards), synthetic: EchoNet-Dynamic's layout with a byte copy, a re-encoded copy,
    three new hearts and a broken file."""
    root = tmp_path_factory.mktemp("audit")
    torch.manual_seed(0)
    save_model(mae(), root / "encoder", contract=InputContract(size=48, frames=8, frame_rate_hz=25.0), card={})
    shards(root / "train", TRAINING)
    shards(root / "holdout", HELD_OUT)
    videos = root / "synthetic" / "Videos"
    videos.mkdir(parents=True)
    stems = ["sample_exact", "sample_again", "sample_new0", "sample_new1", "sample_new2", "sample_broken"]
    shutil.copy(root / "Plantedname-train" / "Janet-0.avi", videos / "sample_exact.avi")
    write_avi(videos / "sample_again.avi", heart(1), codec="mpeg4")
    for number in range(3):
        write_avi(videos / f"sample_new{number}.avi", heart(200 + number))
    (videos / "sample_broken.avi").write_bytes(b"RIFF, but no video")
    lines = [f"{stem},55,40,90,64,64,50,24,TRAIN" for stem in stems]
    head = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
    (root / "synthetic" / "FileList.csv").write_text("\r\n".join([head, *lines]) + "\r\n", newline="")
    (root / "synthetic" / "notes.txt").write_text("made by a generator")
    return root


def words(root: Path, out: Path, *more: str) -> list[str]:
    three = [f"--{name}={root / name}" for name in ("train", "holdout", "synthetic")]
    encoder = [f"--encoder={root / 'encoder'}", f"--cache={out / 'cache'}"]
    return [*three, *encoder, f"--out={out}", "--alpha=0.25", "--processes=1", *more]


@pytest.fixture(scope="module")
def out(sets: Path) -> Path:
    folder = sets / "out"
    assert main(words(sets, folder)) == 1
    return folder


def test_copies_are_found_by_their_bytes_and_by_their_speckle(out: Path) -> None:
    result = AuditResult.from_json(out / "audit.json")
    assert (result.train.clips, result.holdout.clips, result.synthetic.clips) == (6, 8, 5)
    assert result.synthetic.set_aside == 1
    assert (result.duplicates.exact, result.duplicates.perceptual, result.duplicates.train_holdout) == (1, 2, 0)
    samples = pd.read_parquet(out / "samples.parquet")
    assert result.removed == samples["removed"].sum() >= 2
    assert (samples["duplicate_of"] != "").sum() == 2
    exact = samples[samples["duplicate_of"] == samples["clip_id"]]
    assert len(exact) == 1 and exact["clip_score"].iloc[0] == pytest.approx(1)


def test_canaries_are_planted_through_the_same_path(out: Path) -> None:
    result = AuditResult.from_json(out / "audit.json")
    assert [(each.kind, each.strength) for each in result.power] == plan()
    assert all(each.planted == len(TRAINING) for each in result.power)
    recall = {(each.kind, each.strength): each.recall.value for each in result.power}
    assert recall["exact", 0.0] == 1 and result.sees_copies is not None
    right = {each.kind: each.right_patient for each in result.power}
    assert right["exact"] == 1 and right["re-encoded"] >= 0.8
    assert [each.level for each in result.levels] == ["clip", "frame"]


@pytest.mark.slow
def test_a_judge_gets_canaries_of_its_own_encoder(sets: Path, out: Path, tmp_path: Path) -> None:
    def canaries(cache: Path) -> list[EmbeddingTable]:
        tables = [EmbeddingTable.load(path.parent) for path in cache.rglob("meta.json")]
        return [each for each in tables if KIND in each.rows]

    planted = next(
        path.parent for path in (out / "cache").rglob("meta.json") if KIND in EmbeddingTable.load(path.parent).rows
    )
    torch.manual_seed(1)
    save_model(mae(), tmp_path / "judge", contract=InputContract(size=48, frames=8, frame_rate_hz=25.0), card={})
    more = [f"--judge={tmp_path / 'judge'}", f"--canary-table={planted}", "--duplicates=off", "--strips=0"]
    main(words(sets, tmp_path / "out", *more, f"--cache={tmp_path / 'cache'}"))
    assert len(canaries(tmp_path / "cache")) == 1
    result = AuditResult.from_json(tmp_path / "out" / "audit.json")
    assert result.judge is not None and result.judge.sees_copies is not None


def test_the_page_shows_pairs_and_no_name(out: Path) -> None:
    text = (out / "report.html").read_text()
    assert text.count('<figure class="strip">') == 5
    assert "Handle this file as you handle the training set" in text
    for path in (out / "report.html", out / "audit.json", out / "samples.parquet"):
        content = path.read_bytes()
        for name in (*NAMES, "sample_new", "sample_exact"):
            assert name.encode() not in content, (path.name, name)


@pytest.mark.slow
def test_embeddings_are_used_again_and_the_bytes_are_the_same(sets: Path, out: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (out / "cache").rglob("features.safetensors")}
    assert len(files) == 4
    again = sets / "again"
    assert main(words(sets, again, f"--cache={out / 'cache'}")) == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "cache").rglob("features.safetensors")} == files
    assert not (again / "cache").exists()
    # The page names the folder in its next command.
    for name in ("audit.json", "samples.parquet"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_filter_copies_what_is_kept_and_accounts_for_the_rest(sets: Path, out: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    asked = ["filter", f"--audit={out}", f"--synthetic={sets / 'synthetic'}", f"--out={kept}"]
    assert main(asked) == 0
    reported = json.loads((kept / "filter.json").read_text())
    reasons = sorted(each["reason"] for each in reported["left_out"])
    samples = pd.read_parquet(out / "samples.parquet")
    assert reported["clips_kept"] == (~samples["removed"]).sum() == 6 - len(reasons)
    assert sum("shows the recording of real clip" in each for each in reasons) == 2
    assert sum("could not be read" in each for each in reasons) == 1
    for path in (kept / "Videos").iterdir():
        assert path.read_bytes() == (sets / "synthetic" / "Videos" / path.name).read_bytes()
    with open(kept / "FileList.csv", newline="") as table:
        listed = [row["FileName"] for row in csv.DictReader(table)]
    assert sorted(listed) == sorted(path.stem for path in (kept / "Videos").iterdir())
    assert "sample_exact" not in listed and "sample_again" not in listed
    assert (kept / "FileList.csv").read_bytes().count(b"\r\n") == len(listed) + 1
    assert reported["other_files"] == {
        "tables, written without the rows of clips left out": 1,
        "that belong to no clip, left out": 1,
    }
    assert not any(name in (kept / "filter.json").read_text() for name in (*NAMES, "sample"))
    assert [row.path.stem for row in open_source(kept).rows()] == sorted(listed)
    with pytest.raises(EchofmError, match="not empty"):
        main(asked)
    with pytest.raises(EchofmError, match="no clip of this set is kept"):
        main([*asked[:2], f"--synthetic={sets / 'Plantedname-holdout'}", f"--out={tmp_path / 'none'}"])


@pytest.mark.slow
def test_an_id_of_digits_alone_is_one_id_everywhere(sets: Path, tmp_path: Path) -> None:
    """One in ten thousand of our ids is such, and is hashed again as it might be a hospital's number."""
    content = hashlib.sha256((sets / "Plantedname-train" / "Janet-0.avi").read_bytes()).digest()
    secret = next(
        each for each in map("key {:020d}".format, itertools.count()) if IdKey(each.encode()).clip(content).isdigit()
    )
    (tmp_path / "id.key").write_text(secret)
    more = [f"--id-key={tmp_path / 'id.key'}", "--canaries=0"]
    folders = [f"--train={sets / 'Plantedname-train'}", f"--holdout={sets / 'Plantedname-holdout'}"]
    assert main([*words(sets, tmp_path / "out", *more), *folders]) == 1
    samples = pd.read_parquet(tmp_path / "out" / "samples.parquet")
    assert (samples["duplicate_of"] != "").sum() == 2 and not samples["clip_id"].str.isdigit().any()
    assert (tmp_path / "out" / "report.html").read_text().count('<figure class="strip">') == 5
    asked = ["filter", f"--audit={tmp_path / 'out'}", f"--synthetic={sets / 'synthetic'}", f"--out={tmp_path / 'kept'}"]
    assert main([*asked, more[0]]) == 0
    reported = json.loads((tmp_path / "kept" / "filter.json").read_text())
    assert set(reported["kept"]) == set(samples["clip_id"][~samples["removed"]])
    assert sum("not there" in each["reason"] for each in reported["left_out"]) == 1


def test_filtered_shards_hold_the_same_clips(sets: Path, tmp_path: Path) -> None:
    """The held-out shards play the synthetic set: nothing in them is a copy, so two are removed by hand."""
    audited = tmp_path / "audit"
    arguments = words(
        sets, audited, "--duplicates=off", "--strips=0", "--canaries=0", f"--cache={sets / 'out' / 'cache'}"
    )
    arguments = [each for each in arguments if not each.startswith(("--synthetic", "--train"))]
    shards(tmp_path / "others", range(300, 303))
    main([*arguments, f"--train={tmp_path / 'others'}", f"--synthetic={sets / 'train'}"])
    samples = pd.read_parquet(audited / "samples.parquet")
    samples["flagged"] = samples["removed"] = np.arange(len(samples)) < 2
    result = AuditResult.from_json(audited / "audit.json")
    result.model_copy(update={"removed": 2}).save(audited, samples)
    assert main(["filter", f"--audit={audited}", f"--synthetic={sets / 'train'}", f"--out={tmp_path / 'kept'}"]) == 0
    before = {clip.clip_id: clip for clip in ShardSet.open(sets / "train", show_progress=False)}
    after = {clip.clip_id: clip for clip in ShardSet.open(tmp_path / "kept", show_progress=False)}
    assert set(after) == set(samples["clip_id"][2:])
    for name, clip in after.items():
        assert np.array_equal(clip.frames_TCHW, before[name].frames_TCHW)
        assert clip.patient_id == before[name].patient_id


def test_two_clips_of_one_beat_are_brought_together() -> None:
    frames = beating_heart(frames=60, size=64, seed=4)[0]
    own, other, step_s = together(frames[10:40], frames, 0.04)
    assert len(own) == len(other) == FRAMES and step_s == pytest.approx(0.04)
    assert np.array_equal(own, other)


def test_videos_without_an_encoder_are_refused(sets: Path, tmp_path: Path) -> None:
    without = [each for each in words(sets, tmp_path / "x") if not each.startswith("--encoder")]
    with pytest.raises(EchofmError, match="give --encoder"):
        main(without)
    with pytest.raises(EchofmError, match="the synthetic set is not there"):
        main([*words(sets, tmp_path / "x"), "--synthetic=/nowhere/Janet"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--judge=nobody"], "nobody: no such folder"),
        (["--synthetic={table}"], "the synthetic table comes from another encoder .* than --encoder"),
        (["--synthetic={table}", "--judge=pixels"], "--judge is an encoder, but not all sets are videos"),
        (["--synthetic={table}", "--duplicates=on"], "--duplicates on needs"),
    ],
)
def test_what_does_not_fit_is_reported_before_anything_is_embedded(
    more: list[str], says: str, sets: Path, tmp_path: Path
) -> None:
    features = np.eye(3, 32, dtype=np.float32)
    table = EmbeddingTable.from_arrays(features, clip_id=list("abc"), patient_id=list("abc"), encoder_digest="other")
    table.save(tmp_path / "table")
    asked = [*words(sets, tmp_path / "out"), *(each.format(table=tmp_path / "table") for each in more)]
    with pytest.raises(EchofmError, match=says):
        main(asked)
    assert not (tmp_path / "out").exists()


def test_files_set_aside_are_reported_with_their_reason(
    sets: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = io.StringIO()
    monkeypatch.setattr("echofm.embed.cache.console", Console(file=reported, soft_wrap=True))
    main([*words(sets, tmp_path / "again"), f"--cache={out / 'cache'}"])
    line = r"synthetic set: 1 files set aside \(the first: .+\); .*set_aside\.jsonl says why"
    assert re.search(line, reported.getvalue())


def test_too_few_held_out_patients_are_reported_before_anything_is_embedded(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[object] = []
    monkeypatch.setattr("synth.audit.inputs.embedded", lambda *given, **more: embedded.append(given))
    command = [word for word in words(sets, tmp_path) if not word.startswith("--alpha")]
    with pytest.raises(
        EchofmError, match=r"^8 held-out patients cannot show anything at alpha 0.05; hold out at least 19"
    ):
        main(command)
    assert not embedded


@pytest.mark.slow
def test_two_processes_give_the_same_audit(sets: Path, out: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "echofm.cli", "audit"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *words(sets, tmp_path / "two")], capture_output=True, text=True, env=environment, timeout=500
    )
    assert "flagged for removal" in done.stdout, done.stderr
    assert (tmp_path / "two" / "audit.json").read_bytes() == (out / "audit.json").read_bytes()
