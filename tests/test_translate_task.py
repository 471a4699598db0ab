"""The training of a translator: gradients, golden curve, however cut, killed and resumed; what is refused."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from coloured import SIZE, START, TEXTURE, tiny_recipe, write_coloured
from safetensors.torch import load_file
from shardfolder import write_hearts
from task_runs import golden, metrics, require_resumed, run_as_two, run_task, write_encoder

import echofm
from echofm.cli import main as command
from echofm.engine.asking import MicroLoss, outputs
from echofm.engine.task import Turn
from echofm.shards.read import ShardSet
from synth.translate.config import TranslateRecipe, TranslatorConfig
from synth.translate.recipes import RECIPES
from synth.translate.task import TranslateTask
from synth.translate.texture import energy_score
from synth.translate.translator import Translator

GOLDEN = Path(__file__).parent / "golden" / "translate_loss_curve.json"
PLAYERS = ("structure", "texture", "discriminator")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translate") / "shards"
    write_coloured(folder)
    return folder


@pytest.fixture(scope="module")
def shards(folder: Path) -> ShardSet:
    return ShardSet.open(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"), size=SIZE)


def run_of(
    folder: Path, shards: ShardSet, *, killed_at: int | None = None, resume: bool = False, **fit_: object
) -> None:
    recipe = tiny_recipe(**fit_)
    run_task(folder, TranslateTask(recipe, shards), recipe, shards, killed_at=killed_at, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    """A run that no one killed, uncut, on one process."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_of(folder, shards)
    return folder


def same_figures(found: Path, wanted: Path) -> None:
    for one, other in zip(metrics(found), metrics(wanted), strict=True):
        # The first steps of AdamW follow signs, of which some are but round-off.
        loose = one["step"] >= TEXTURE
        assert one == pytest.approx(other, rel=5e-2 if loose else 1e-3, abs=1e-2 if loose else 1e-5), one["step"]


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("perceptual", [False, True])
def test_losses_are_finite_and_every_weight_learns(
    player: str, perceptual: bool, shards: ShardSet, encoder: str
) -> None:
    recipe = tiny_recipe()
    task = TranslateTask(recipe, shards, encoder=encoder if perceptual else None)
    nets = {each.name: each.net for each in task.players()}
    # Where the last layer is 0, as it begins, nothing before it has a gradient.
    for name in PLAYERS[:2]:
        torch.nn.init.normal_(nets[name].last.weight, std=0.1)
    for name in set(nets) - {player}:
        nets[name].requires_grad_(False)
    batch = task.prepare(next(task.batches(shards, recipe.fit, start_step=0)).to("cpu"))
    turn = Turn(player=player, step=START, net=nets[player], nets=nets, ema={}, whole=True)
    loss = MicroLoss(lambda: task.loss(batch, turn), within=contextlib.nullcontext)
    output = next(outputs([loss], Accelerator(cpu=True)))
    output.loss.backward()
    assert output.loss.isfinite() and all(value.isfinite() for value in output.logs.values())
    assert ("perceptual" in output.logs) == (perceptual and player != "discriminator")
    assert not [name for name, w in nets[player].named_parameters() if w.grad is None or not w.grad.any()]


def test_draws_that_spread_as_the_truth_score_least() -> None:
    """Of a normal truth: 1 / sqrt(pi) for draws like it, sqrt(2 / pi) for two draws that are its mean."""
    first, second, true = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0))
    assert energy_score(first, second, true).mean().item() == pytest.approx(math.pi**-0.5, rel=1e-2)
    still = torch.zeros_like(true)
    assert energy_score(still, still, true).mean().item() == pytest.approx((2 / math.pi) ** 0.5, rel=1e-2)


def test_golden_loss_curve(whole: Path) -> None:
    found = metrics(whole)
    wanted = golden(GOLDEN, found)
    for now, then in zip(found, wanted):
        assert now == pytest.approx(then, rel=2e-3 if now["step"] <= 10 else 2e-2, abs=1e-4), then["step"]
        assert ("texture/loss" in now) == (now["step"] >= TEXTURE)
        assert ("discriminator/loss" in now) == ("texture/adversary_weight" in now) == (now["step"] >= START)
    assert wanted[-1]["structure/l1"] < 0.8 * wanted[0]["structure/l1"]


@pytest.mark.parametrize("parts", [4])
def test_accumulation_equals_the_batch(parts: int, whole: Path, shards: ShardSet, tmp_path: Path) -> None:
    run_of(tmp_path / "cut", shards, accumulate=parts)
    same_figures(tmp_path / "cut", whole)


@pytest.mark.slow
def test_killed_and_resumed_is_bit_equal(whole: Path, shards: ShardSet, tmp_path: Path) -> None:
    require_resumed(partial(run_of, shards=shards), tmp_path / "cut", whole)


def run_on(out: Path, shards: Path) -> None:
    run_of(out, ShardSet.open(shards))


@pytest.mark.slow
def test_two_processes_equal_one(whole: Path, folder: Path, tmp_path: Path) -> None:
    run_as_two(run_on, tmp_path / "two", folder)
    same_figures(tmp_path / "two", whole)


def test_what_is_exported_is_the_mean_of_both_networks(whole: Path) -> None:
    net = echofm.load_model(whole / "export")
    assert isinstance(net, Translator)
    ema = load_file(whole / "state" / "step_00000020" / "ema.safetensors")
    own = {name.replace("/", ".", 1): tensor for name, tensor in ema.items()}
    assert set(own) == set(net.state_dict())
    assert all(torch.equal(tensor, own[name]) for name, tensor in net.state_dict().items())


def test_grey_shards_are_coloured_by_the_clips_own_draws(tmp_path: Path) -> None:
    write_hearts(tmp_path / "grey", 24, size=32, fractions=(0.5, 0.25, 0.25))
    shards, recipe = ShardSet.open(tmp_path / "grey"), tiny_recipe()
    task = TranslateTask(recipe, shards)
    first, second = (task.prepare(next(task.batches(shards, recipe.fit, start_step=0)).to("cpu")) for _ in range(2))
    assert torch.equal(first.video_BCTHW, second.video_BCTHW)
    assert first.video_BCTHW.shape[1] == 3 and first.paired_BCTHW is not None
    changed = (first.video_BCTHW != first.paired_BCTHW).any(1)
    assert 0.001 < changed.float().mean() < 0.5 and not (changed & ~first.sector_BHW[:, None]).any()
    batch = next(task.batches(shards, recipe.fit, start_step=0)).to("cpu")
    halves = [task.prepare(part).video_BCTHW for part in (batch[:2], batch[2:])]
    assert torch.equal(torch.cat(halves), first.video_BCTHW)


def test_what_cannot_be_is_refused_before_work(
    folder: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hearts(tmp_path / "unpaired", 8, size=SIZE, channels=3)
    words = ["synth", "train", "translate", "demo", "--data", str(folder), "--out", str(tmp_path / "run")]
    small = ["--network.size", "16", "--network.structure-widths", "4", "--network.texture-widths", "4"]
    for more, reason in (
        (["--encoder", encoder], "sees frames of 16, the translator of 64"),
        (["--encoder", encoder, *small, "--data.frames", "3"], "takes frames by 2"),
        (["--data", str(tmp_path / "unpaired")], "hold no paired"),
    ):
        assert command([*words, *more]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    recipe = tiny_recipe()
    with pytest.raises(ValueError, match="do not divide into cells of 4 pixels"):
        TranslatorConfig(**{**recipe.network.model_dump(), "size": 18})
    with pytest.raises(ValueError, match="begins before the texture"):
        TranslateRecipe(**{**recipe.model_dump(), "adversary": {"start_step": TEXTURE - 1}})


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_build(name: str) -> None:
    recipe = RECIPES[name]()
    assert type(recipe).model_validate_json(recipe.to_json()) == recipe
    with torch.device("meta"):
        net = Translator(recipe.network)
    millions = sum(weight.numel() for weight in net.parameters()) / 1e6
    assert millions == pytest.approx({"demo": 0.2, "base": 9.0}[name], rel=0.5)
