"""The quick probe in training: finds what is there, leaves the training as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from heart_shards import KEY, Hearts, read_heart
from pretrain_process import finish, launch, records, tiny_words, weights_sha256
from test_probe_evaluate import table

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.table import EmbeddingTable
from echofm.engine.monitor import Snapshot, load_hook
from echofm.errors import EchofmError
from echofm.model.config import NetworkConfig
from echofm.model.mae import VideoMae
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards
from probe.monitor import monitor, quick_probe

SPLITS = ["train"] * 240 + ["val"] * 120


def read_labelled(row: Row) -> Clip:
    """A heart whose view shows: every second one is upside down."""
    clip, number = read_heart(row, frames=24, size=32), int(row.path.name.removeprefix("heart-"))
    if number % 2:
        clip = replace(clip, frames_TCHW=clip.frames_TCHW[:, :, ::-1].copy(), sector_HW=clip.sector_HW[::-1].copy())
    return replace(clip, view="A4C" if number % 2 else "PLAX", labels={"rate_bpm": 55.0 + 10 * (number % 6)})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled") / "shards"
    write_shards(Hearts(16, 6), folder, size=32, frame_rate_hz=None, key=KEY, read=read_labelled, show_progress=False)
    return folder


@pytest.fixture
def snapshot(shards: Path, tmp_path: Path) -> Snapshot:
    torch.manual_seed(0)
    model = VideoMae(
        NetworkConfig(
            size=32,
            frames=8,
            channels=1,
            patch=8,
            tubelet=2,
            width=32,
            depth=1,
            heads=2,
            decoder_width=16,
            decoder_depth=1,
            decoder_heads=2,
            predicted_frames=4,
        )
    )
    contract = InputContract(size=32, frames=8)
    opened = ShardSet.open(shards, show_progress=False)
    return Snapshot(contract=contract, shards=opened, folder=tmp_path, model=model, step=7)


def test_what_is_there_is_found_and_shuffled_labels_are_not() -> None:
    planted = table(splits=SPLITS)
    ef = quick_probe(planted, target="ef_percent")
    assert ef["r2"] > 0.8 and ef["knn_r2"] > 0.5 and (ef["train_clips"], ef["val_clips"]) == (240, 120)
    assert quick_probe(planted, target="view")["balanced_accuracy"] > 0.9
    mixed = np.random.default_rng(0).permutation(len(planted))
    rows = planted.rows.assign(view=planted.rows["view"].to_numpy()[mixed])
    shuffled = EmbeddingTable(video_ND=planted.video_ND, rows=rows, encoder_digest="a")
    assert abs(quick_probe(shuffled, target="view")["balanced_accuracy"] - 1 / 3) < 0.15


def test_hook_embeds_the_same_clips_each_time_and_leaves_no_trace(snapshot: Snapshot) -> None:
    snapshot.model.train()
    snapshot.model.decoder.eval()
    modes = [module.training for module in snapshot.model.modules()]
    weights = {name: value.clone() for name, value in snapshot.model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = monitor("view, rate_bpm")(snapshot)
    assert first == monitor("view, rate_bpm")(snapshot)
    assert first["view/train_clips"] == 16 and first["view/val_clips"] == 6
    assert first["view/balanced_accuracy"] > 0.8
    assert np.isfinite(first["rate_bpm/r2"])
    assert [module.training for module in snapshot.model.modules()] == modes
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    assert all(torch.equal(weights[name], value) for name, value in snapshot.model.state_dict().items())


def test_what_cannot_be_probed_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(EchofmError, match="needs a label"):
        monitor("")
    with pytest.raises(EchofmError, match="no clip of the shards has the label ef_percent"):
        monitor("ef_percent")(snapshot)
    few = table(splits=["train"] * 359 + ["val"], patients=120)
    with pytest.raises(EchofmError, match=r"359 training and 1 val clips.* --fractions 0\.8 0\.1 0\.1"):
        quick_probe(few, target="ef_percent")
    made = table(splits=SPLITS, patients=120)
    words = np.where(made.view == "A4C", "a|b", "b|c")
    with pytest.raises(EchofmError, match="several labels in one"):
        quick_probe(replace(made, rows=made.rows.assign(found=words)), target="found")


def test_installed_for_pretraining_under_its_name(snapshot: Snapshot) -> None:
    assert set(load_hook("probe:rate_bpm")(snapshot)) == {"r2", "knn_r2", "train_clips", "val_clips"}


def test_a_run_with_it_learns_the_very_same_weights(shards: Path, tmp_path: Path) -> None:
    plain = ["demo", "--data", str(shards), *tiny_words(), "--fit.steps", "12"]
    runs = {"without": [], "with": ["--monitor", "probe:view"]}
    for name, more in runs.items():
        finish(launch([*plain, "--out", str(tmp_path / name), *more], log=tmp_path / f"{name}.log"))
    assert weights_sha256(tmp_path / "without") == weights_sha256(tmp_path / "with")
    key = "monitor/probe:view/balanced_accuracy"
    assert [record["step"] for record in records(tmp_path / "with") if key in record] == [0, 10, 12]
