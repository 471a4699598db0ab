"""The training of an autoencoder: gradients, golden curve, however cut, killed and resumed; test patients unseen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from shardfolder import write_hearts
from task_runs import golden, metrics, require_resumed, run_as_two, run_task, write_encoder
from tiny_latent import SIZE, START, tiny_config, tiny_recipe

import echofm
from echofm.cli import main as command
from echofm.clip import ClipBatch
from echofm.engine.asking import MicroLoss, outputs
from echofm.engine.task import Turn
from echofm.engine.train import start
from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.shards.read import ShardSet
from synth.latent.recipes import RECIPES
from synth.latent.standardise import latents_of
from synth.latent.task import LatentTask

GOLDEN = Path(__file__).parent / "golden" / "latent_loss_curve.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent") / "shards"
    write_hearts(folder, 24, size=SIZE, fractions=(0.5, 0.25, 0.25))
    return folder


@pytest.fixture(scope="module")
def shards(folder: Path) -> ShardSet:
    return ShardSet.open(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"), size=SIZE)


def batches_of(task: LatentTask, shards: ShardSet, *, begin: int = 0) -> Iterator[ClipBatch]:
    return task.batches(shards, task._recipe.fit, start_step=begin)


def run_of(
    folder: Path, shards: ShardSet, *, killed_at: int | None = None, resume: bool = False, **fit_: object
) -> None:
    recipe = tiny_recipe(**fit_)
    run_task(folder, LatentTask(recipe, shards), recipe, shards, killed_at=killed_at, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    """A run that no one killed, uncut, on one process."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_of(folder, shards)
    return folder


def same_figures(found: Path, wanted: Path) -> None:
    for one, other in zip(metrics(found), metrics(wanted), strict=True):
        # AdamW's first steps follow the signs of the discriminator's gradients, of which some are but round-off.
        loose = one["step"] > START
        assert one == pytest.approx(other, rel=5e-2 if loose else 1e-3, abs=1e-2 if loose else 1e-5), one["step"]


@pytest.mark.parametrize("player", ["autoencoder", "discriminator"])
@pytest.mark.parametrize("perceptual", [False, True])
def test_losses_are_finite_and_every_weight_learns(
    player: str, perceptual: bool, shards: ShardSet, encoder: str
) -> None:
    task = LatentTask(tiny_recipe(), shards, encoder=encoder if perceptual else None)
    nets = {each.name: each.net for each in task.players()}
    others = {"autoencoder": "discriminator", "discriminator": "autoencoder"}
    nets[others[player]].requires_grad_(False)
    batch = task.prepare(next(batches_of(task, shards)).to("cpu"))
    turn = Turn(player=player, step=START, net=nets[player], nets=nets, ema={}, whole=True)
    loss = MicroLoss(lambda: task.loss(batch, turn), within=contextlib.nullcontext)
    output = next(outputs([loss], Accelerator(cpu=True)))
    output.loss.backward()
    assert output.loss.isfinite() and all(value.isfinite() for value in output.logs.values())
    assert ("perceptual" in output.logs) == (perceptual and player == "autoencoder")
    still = [name for name, w in nets[player].named_parameters() if w.grad is None or not w.grad.any()]
    assert not still


def test_golden_loss_curve(whole: Path) -> None:
    found = metrics(whole)
    wanted = golden(GOLDEN, found)
    for now, then in zip(found, wanted):
        assert now == pytest.approx(then, rel=1e-3, abs=1e-4), then["step"]
        assert ("discriminator/loss" in now) == ("autoencoder/adversary_weight" in now) == (now["step"] >= START)
    assert wanted[-1]["autoencoder/nll"] < 0.5 * wanted[0]["autoencoder/nll"]


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_batch(parts: int, whole: Path, shards: ShardSet, tmp_path: Path) -> None:
    run_of(tmp_path / "cut", shards, accumulate=parts)
    same_figures(tmp_path / "cut", whole)


def test_killed_and_resumed_is_bit_equal(whole: Path, shards: ShardSet, tmp_path: Path) -> None:
    require_resumed(partial(run_of, shards=shards), tmp_path / "cut", whole)


def run_on(out: Path, shards: Path) -> None:
    run_of(out, ShardSet.open(shards))


@pytest.mark.slow
def test_two_processes_equal_one(whole: Path, folder: Path, tmp_path: Path) -> None:
    run_as_two(run_on, tmp_path / "two", folder)
    same_figures(tmp_path / "two", whole)


def test_what_is_exported_is_the_mean_and_knows_its_latents(whole: Path, shards: ShardSet) -> None:
    net = echofm.load_model(whole / "export").eval()
    ema = load_file(whole / "state" / "step_00000020" / "ema.safetensors")
    own = {name.partition("/")[2]: tensor for name, tensor in ema.items() if name.startswith("autoencoder/")}
    assert own and all(torch.equal(tensor, own[name]) for name, tensor in net.state_dict().items() if name[:3] == "net")
    latents = [latents_of(net, clip).transpose(1, 0, 2, 3).reshape(4, -1) for clip in shards.split("train")]
    latents_CN = np.concatenate(latents, 1)
    assert latents_CN.mean(1) == pytest.approx(net.mean_C.numpy(), abs=1e-5)
    assert latents_CN.std(1) == pytest.approx(net.std_C.numpy(), rel=1e-4)


def test_no_patient_but_the_training_splits_is_learnt_from(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published autoencoder saw every patient's frames, test patients' too; the val split is measured alone."""
    seen: set[str] = set()
    frames, clip = ShardSet.read_frames, ShardSet.clip

    def recorded(read):  # type: ignore[no-untyped-def]
        def of(self, index, *rest):  # type: ignore[no-untyped-def]
            seen.add(self.records[index].meta.split)
            return read(self, index, *rest)

        return of

    monkeypatch.setattr(ShardSet, "read_frames", recorded(frames))
    monkeypatch.setattr(ShardSet, "clip", recorded(clip))
    start(tiny_recipe(), LatentTask, data=shards.folder, out=tmp_path / "measured")
    assert seen == {"train", "val"}
    seen.clear()
    unmeasured = tiny_recipe()
    unmeasured = unmeasured.model_copy(update={"monitor": unmeasured.monitor.model_copy(update={"every": 0})})
    start(unmeasured, LatentTask, data=shards.folder, out=tmp_path / "unmeasured")
    assert seen == {"train"}
    same = [(tmp_path / run / "export" / "model.safetensors").read_bytes() for run in ("measured", "unmeasured")]
    assert same[0] == same[1], "the val split is measured and changes nothing"
    psnr = [record["monitor/psnr_db"] for record in metrics(tmp_path / "measured") if "monitor/psnr_db" in record]
    assert len(psnr) == 3 and psnr[0] < psnr[1] and (tmp_path / "measured" / "pictures").is_dir()


def test_a_channel_that_never_changes_is_not_exported(shards: ShardSet, tmp_path: Path) -> None:
    task = LatentTask(tiny_recipe(), shards)
    task.net.net.quant_conv.weight.data[1] = 0
    with pytest.raises(EchofmError, match="the same everywhere"):
        task.export(tmp_path, {"autoencoder": task.net}, card={})


def test_bf16_stays_near_fp32(shards: ShardSet) -> None:
    """The published network gives NaN in half precision (facts2, section 3)."""
    figures = []
    for precision in ("fp32", "bf16"):
        recipe = tiny_recipe(precision=precision)
        task = LatentTask(recipe, shards)
        updater, batches = Updater(task, recipe.fit), batches_of(task, shards)
        figures.append([updater(next(batches), step=step).figures for step in range(START - 2, START + 1)])
        assert all(weight.dtype == torch.float32 for weight in task.net.parameters())
    for one, other in zip(*figures):
        for name in ("nll", "kl", "loss"):
            assert one[f"autoencoder/{name}"] == pytest.approx(other[f"autoencoder/{name}"], rel=0.1, abs=1e-3), name


def test_without_adversary_there_is_one_player(shards: ShardSet) -> None:
    recipe = tiny_recipe()
    task = LatentTask(
        recipe.model_copy(update={"adversary": recipe.adversary.model_copy(update={"weight": 0.0})}), shards
    )
    assert [player.name for player in task.players()] == ["autoencoder"]
    updater = Updater(task, recipe.fit)
    assert "nll" in updater(next(batches_of(task, shards)), step=START).figures


def test_what_cannot_be_is_refused_before_work(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hearts(tmp_path / "colour", 8, size=SIZE, channels=3)
    words = ["synth", "train", "latent", "demo", "--data", str(folder), "--out", str(tmp_path / "run")]
    for more, reason in (
        (["--encoder", encoder], "sees frames of 16, the autoencoder of 64"),
        (["--encoder", encoder, "--network.size", "16", "--data.frames", "3"], "takes frames by 2"),
        (["--encoder", encoder, "--lpips", "lpips.pth"], "give one"),
        (["--data", str(tmp_path / "colour")], "the shards are in colour"),
    ):
        assert command([*words, *more]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    for changes, reason in (({"size": 50}, "do not divide into latents of 4"), ({"widths": (10, 8)}, "multiples of 4")):
        with pytest.raises(ValueError, match=reason):
            tiny_config(**changes)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_build(name: str) -> None:
    recipe = RECIPES[name]()
    assert type(recipe).model_validate_json(recipe.to_json()) == recipe
    with torch.device("meta"):
        task = LatentTask(recipe.model_copy(update={"monitor": recipe.monitor.model_copy(update={"every": 0})}))
        millions = sum(weight.numel() for weight in task.net.parameters()) / 1e6
    assert millions == pytest.approx({"published": 62.4}.get(name, millions), abs=0.05)
    assert (recipe.network.scale, recipe.network.latent_channels) == ({"published": 8}.get(name, 4), 4)


def test_repeated_frames_of_a_short_clip_are_not_scored(shards: ShardSet) -> None:
    task = LatentTask(tiny_recipe(), shards)
    updater, batch = Updater(task, tiny_recipe().fit), next(batches_of(task, shards))
    valid_BT = batch.valid_BT.clone()
    valid_BT[0, 1] = False
    spoiled = batch.video_BCTHW.clone()
    spoiled[0, :, 1] = 255 - spoiled[0, :, 1]
    figures = []
    for video_BCTHW in (batch.video_BCTHW, spoiled):
        state = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
        figures.append(updater(replace(batch, video_BCTHW=video_BCTHW, valid_BT=valid_BT), step=1).figures)
        task.net.load_state_dict(state)
    assert figures[0]["autoencoder/nll"] == pytest.approx(figures[1]["autoencoder/nll"], rel=1e-6)
