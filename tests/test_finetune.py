"""Fine-tuning: it begins at the linear probe, changes the encoder, stands beside the frozen probe, and is applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from encoder_and_sets import write_encoder_and_sets

from echofm.cli import main
from echofm.embed.options import EmbedOptions
from echofm.embed.table import EmbeddingTable
from echofm.hub import load_encoder
from echofm.model.video import as_video
from echofm.shards.read import ShardSet
from probe.finetune.recipe import default
from probe.finetune.run import Start
from probe.finetune.task import FinetuneTask
from probe.inputs import open_inputs
from probe.predict.model import LabelModel
from probe.result import ProbeResult


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("room")
    write_encoder_and_sets(root, hearts=24, fresh=1)
    return root


def words(room: Path, out: Path, *more: str) -> list[str]:
    shared = ["--data", str(room / "shards"), "--cache", str(room / "cache"), "--out", str(out), "--draws", "20"]
    return ["finetune", str(room / "encoder"), "--steps", "4", "--train-batch", "4", "--no-baselines", *shared, *more]


def begin(room: Path, target: str) -> Start:
    options = EmbedOptions(cache=room / "cache")
    inputs = open_inputs([str(room / "encoder")], data=room / "shards", options=options, with_baselines=False)
    return Start.of(inputs.table, target, seed=0)


@pytest.mark.parametrize("target", ["ef_percent", "view"])
def test_it_begins_at_the_linear_probe(room: Path, target: str) -> None:
    start, encoder = begin(room, target), load_encoder(room / "encoder")
    net = start.net(encoder).eval()
    shards = ShardSet.open(room / "shards")
    clip = shards.clip(0)
    with torch.no_grad():
        output_BO = net(as_video(clip, encoder.contract))
    row = int(np.flatnonzero(start.table.clip_id == clip.clip_id)[0])
    ours = start.model.predict(start.table)[row]
    if target == "ef_percent":
        # A clip of one window: the mean over windows is that window.
        assert len(output_BO) > 1 or output_BO[0, 0] * start.spread.scale + start.spread.mean == pytest.approx(
            ours, rel=1e-3
        )
    assert torch.isfinite(output_BO).all()


@pytest.mark.parametrize("target", ["ef_percent", "view"])
def test_every_weight_but_the_projectors_takes_gradients(room: Path, target: str) -> None:
    start, encoder = begin(room, target), load_encoder(room / "encoder")
    recipe = default(steps=4, batch=4, lr=1e-3, layer_decay=0.5, seed=0, workers=0)
    classes = len(start.goal.classes)
    how = {"contract": encoder.contract, "values": start.values, "spread": start.spread, "classes": classes}
    task = FinetuneTask(recipe, start.net(encoder), **how)
    assert task._scale_of_rate("head.weight") == 1.0 and task._scale_of_rate("encoder.blocks.0.mlp.fc1.weight") == 0.5
    assert task._scale_of_rate("encoder.embed.proj.weight") == 0.25
    from echofm.engine.update import Updater

    before = {name: each.detach().clone() for name, each in task.net.named_parameters() if each.requires_grad}
    updater = Updater(task, recipe.fit)
    batches = task.batches(ShardSet.open(room / "shards"), recipe.fit, start_step=0)
    for step in (1, 2):
        updater(next(batches), step=step)
    same = [
        name for name, each in task.net.named_parameters() if each.requires_grad and torch.equal(each, before[name])
    ]
    assert not same and not any(name.startswith("encoder.phase") for name in before)


def test_the_command_and_what_it_leaves(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(words(room, tmp_path / "out", "--target", "ef_percent")) in (0, 1)
    folder = tmp_path / "out" / "ef_percent"
    assert {path.name for path in folder.iterdir()} == {
        *("encoder", "model.json", "model.safetensors", "predictions.parquet", "probe.json")
    }
    result = ProbeResult.from_json(folder / "probe.json")
    methods = {score.method for score in result.scores}
    assert {"probe", "frozen probe", "mean"} <= methods
    assert any(each.baseline == "frozen probe" for each in result.comparisons)
    assert load_encoder(folder / "encoder").digest == LabelModel.load(folder).facts.encoder_digest
    assert load_encoder(folder / "encoder").digest != load_encoder(room / "encoder").digest
    out = tmp_path / "again.csv"
    command = ["predict", str(folder), str(room / "shards"), "--out", str(out), "--cache", str(room / "cache")]
    assert main(command) == 0
    ours = pd.read_parquet(folder / "predictions.parquet").set_index("clip_id")["predicted"]
    again = pd.read_csv(out).set_index("clip_id")["predicted"]
    assert (again.loc[ours.index].to_numpy() == ours.to_numpy()).all(), "bit for bit"
    assert "fine-tuned - frozen probe" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert result.encoder == "encoder, fine-tuned" and "--cross-validate" not in page
    assert "What a fine-tuned encoder predicts" in page and "frozen features know" not in page


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--target", "phase"], "a clip's label"),
        (["--target", "lvidd_cm"], "no label 'lvidd_cm'"),
        (["--target", "ef_percent", "--steps", "0"], "--steps is 0"),
        (["--target", "ef_percent", "--layer-decay", "2"], "--layer-decay 2"),
    ],
)
def test_refused_before_work(
    room: Path, tmp_path: Path, more: list[str], says: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(words(room, tmp_path / "out", *more)) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_class_without_a_training_clip_leaves_the_others_in_their_places() -> None:
    rng, clips = np.random.default_rng(0), range(40)
    split = [("train", "train", "val", "test")[n % 4] for n in clips]
    words = ["b" if split[n] == "test" and n % 8 == 3 else "ac"[n % 2] for n in clips]
    table = EmbeddingTable.from_arrays(
        rng.normal(size=(40, 6)).astype(np.float32),
        clip_id=[f"c{n}" for n in clips],
        patient_id=[f"p{n}" for n in clips],
        encoder_digest="e" * 64,
        split=split,
        labels={"word": words},
    )
    motion = rng.uniform(0.1, 1, size=(40, 2, 2, 6)).astype(np.float32)
    start = Start.of(replace(table, motion_NRCD=motion), "word", seed=0)
    assert start.goal.classes == ("a", "b", "c") and start.classes == 2
    assert start.values["c0"] == 0 and start.values["c1"] == 1, "the head has one output, for a or c"
