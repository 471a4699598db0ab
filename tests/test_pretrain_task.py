"""The pretraining task: gradients everywhere, draws per clip, the golden loss curve, the monitor's warnings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from heart_shards import FRAME_RATE_HZ, write_heart_shards

from echofm.augment import fit_to, vary_grey
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.asking import MicroLoss, outputs
from echofm.engine.held_out import held_out
from echofm.engine.task import StepOutput, Turn
from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.metric.circular import circular_distance
from echofm.model.config import MaskingConfig, NetworkConfig, ObjectiveConfig
from echofm.shards.read import ShardSet
from pretrain.recipes import RECIPES, PretrainRecipe
from pretrain.task import PretrainTask
from pretrain.validate import collapsed, warn

Changes = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden"
# The published objective, and one that predicts features as well.
CURVES: dict[str, Changes] = {
    "pretrain_loss_curve": {},
    "pretrain_latent_curve": {"latent": {"weight": 1}, "reconstruction": {"weight": 0.5}},
}


def tiny_recipe(*, masking: Changes = {}, objective: Changes = {}, **network: object) -> PretrainRecipe:  # noqa: B006
    recipe = RECIPES["demo"]()
    small = {"size": 32, "frames": 8, "width": 32, "depth": 2, "heads": 2, "decoder_width": 16, "predicted_frames": 4}
    # The rate is 5e-4 at its peak.
    optim = recipe.fit.optim.model_copy(update={"base_lr": 5e-4 * 256 / 4, "warmup_steps": 0})
    fit = recipe.fit.model_copy(update={"batch": 4, "steps": 20, "optim": optim, "ema_decay": 0.9})
    return PretrainRecipe(
        name="demo",
        network=NetworkConfig(**{**recipe.network.model_dump(), **small, **network}),
        masking=MaskingConfig(**{**recipe.masking.model_dump(), **masking}),
        objective=ObjectiveConfig(**objective),
        data=recipe.data,
        fit=fit,
        monitor=recipe.monitor,
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(write_heart_shards(tmp_path_factory.mktemp("s") / "s", train=10, val=3, frames=48, size=40))


def batches_of(recipe: PretrainRecipe, shards: ShardSet) -> Iterator[ClipBatch]:
    return PretrainTask(recipe).batches(shards, recipe.fit, start_step=0)


def first_batch(recipe: PretrainRecipe, shards: ShardSet) -> ClipBatch:
    return next(batches_of(recipe, shards)).to("cpu")


def alone(task: PretrainTask, batch: ClipBatch) -> StepOutput:
    """The loss of a batch that is not cut."""
    turn = Turn(player="model", step=1, net=task.net, nets={"model": task.net}, ema={"model": task.net}, whole=True)
    loss = MicroLoss(lambda: task.loss(batch, turn), within=contextlib.nullcontext)
    return next(outputs([loss], Accelerator(cpu=True)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": {"prior": {"kind": "pixel+difference"}}},
        {"objective": {"prior": {"kind": "embedding"}}},
        {"masking": {"kind": "frame"}, "frames": 32, "predicted_frames": 16},
        {"masking": {"kind": "random"}},
        {"objective": {"reconstruction": {"sector_only": True, "median_target": True, "normalised_target": False}}},
        {"channels": 3, "masking": {"decode_ratio": 0.5}},
        {"objective": {"clip_contrast": {"weight": 1}}},
        {"objective": {"latent": {"weight": 1}}, "masking": {"kind": "block", "decode_ratio": 0.5}},
    ],
    ids=str,
)
def test_loss_is_finite_and_every_parameter_learns(changes: Changes, shards: ShardSet) -> None:
    recipe = tiny_recipe(**changes)
    task = PretrainTask(recipe)
    batch = task.prepare(first_batch(recipe, shards))
    output = alone(task, batch)
    output.loss.backward()
    assert output.loss.isfinite() and all(value.isfinite() for value in output.logs.values())
    still = [
        n for n, p in task.net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not still


def curve(shards: ShardSet, objective: Changes) -> list[dict[str, float]]:
    """Twenty steps of the tiny recipe on one thread."""
    # What eight frames leave of centred phase vectors is small, and its cosines make round-off large.
    recipe = tiny_recipe(phase_centre=0.0, objective=objective)
    task = PretrainTask(recipe)
    updater, batches = Updater(task, recipe.fit), batches_of(recipe, shards)
    figures = [updater(next(batches), step=step).figures for step in range(1, 21)]
    return [{name: value for name, value in each.items() if name != "lr"} for each in figures]


@pytest.mark.parametrize("name", CURVES)
def test_golden_loss_curve(name: str, shards: ShardSet) -> None:
    """Any change of model, loss, draw, order or optimizer shows here.

    Where it is meant: `PYTHONPATH=. python tests/test_pretrain_task.py` writes the file anew; say why in the commit.
    """
    wanted = json.loads((GOLDEN / f"{name}.json").read_text())
    found = curve(shards, CURVES[name])
    assert len(found) == len(wanted) == 20
    for step, (now, then) in enumerate(zip(found, wanted), 1):
        assert now == pytest.approx(then, rel=1e-3, abs=1e-4), step
    assert wanted[-1]["loss"] < 0.95 * wanted[0]["loss"]


# Wholly centred phase vectors are 0.2 apart: what is left of them is too small for bfloat16.
@pytest.mark.parametrize(("phase_centre", "apart"), [(0.0, 0.02), (0.9, 0.1)])
def test_bf16_stays_near_fp32_and_leaves_the_network_alone(shards: ShardSet, phase_centre: float, apart: float) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        recipe = tiny_recipe(phase_centre=phase_centre)
        fit = recipe.fit.model_copy(update={"precision": precision})
        task = PretrainTask(recipe.model_copy(update={"fit": fit}))
        forward = task.net.forward
        updater, batches = Updater(task, fit), batches_of(recipe, shards)
        losses.append([updater(next(batches), step=step).figures["loss"] for step in range(1, 6)])
        assert task.net.forward == forward
        assert {p.dtype for p in task.net.parameters()} == {torch.float32}
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=apart)


def of_draws(video_BCTHW: torch.Tensor, draw_B: torch.Tensor) -> ClipBatch:
    clips, _, frames, rows, columns = video_BCTHW.shape
    return ClipBatch(
        video_BCTHW=video_BCTHW,
        sector_BHW=torch.ones(clips, rows, columns, dtype=torch.bool),
        valid_BT=torch.ones(clips, frames, dtype=torch.bool),
        frame_time_s_BT=torch.zeros(clips, frames),
        draw_B=draw_B,
        clip_ids=["clip"] * clips,
        patient_ids=["patient"] * clips,
    )


def test_gain_and_contrast_are_drawn_per_clip() -> None:
    grey = torch.rand(4, 1, 2, 8, 8)
    grey[..., :4, :] = 0
    draw = torch.tensor([5, 7, 9, 11])
    batch = of_draws(grey, draw)
    varied = vary_grey(batch, gain=0.3, contrast=0.5).video_BCTHW
    assert varied.min() == 0 < varied.max() <= 1
    assert not varied[..., :4, :].any()
    assert all(
        torch.equal(vary_grey(batch[i : i + 1], gain=0.3, contrast=0.5).video_BCTHW[0], varied[i]) for i in range(4)
    )
    even = of_draws(torch.full((1000, 1, 1, 1, 1), 0.5), torch.arange(1000))
    flat = vary_grey(even, gain=0.3, contrast=0.0).video_BCTHW.flatten() / 0.5
    assert flat.min().item() == pytest.approx(0.7, abs=0.01) and flat.max().item() == pytest.approx(1.3, abs=0.01)
    assert flat.mean().item() == pytest.approx(1.0, abs=0.02)


def test_fit_to_resizes_frames_and_sector(shards: ShardSet) -> None:
    batch = first_batch(tiny_recipe(), shards)
    assert batch.video_BCTHW.shape[-1] == 40
    contract = InputContract(size=20, frames=8, channels=3, frame_rate_hz=25.0)
    fitted = fit_to(batch, contract)
    contract.check(fitted.video_BCTHW, 25.0)
    assert fitted.sector_BHW.shape == (4, 20, 20)
    assert fitted.sector_BHW.float().mean().item() == pytest.approx(batch.sector_BHW.float().mean().item(), abs=0.05)
    # Antialiased: block means, but for the edges.
    blocks = torch.nn.functional.avg_pool2d(batch.video_BCTHW[:, 0].flatten(0, 1), 2)
    assert (fitted.video_BCTHW[:, 0].flatten(0, 1) - blocks).abs().mean() < 0.03
    untouched = fit_to(batch, replace_size(contract, 40, channels=1))
    assert untouched.video_BCTHW is batch.video_BCTHW


def test_fit_to_takes_all_that_a_batch_holds_of_its_frames(shards: ShardSet) -> None:
    batch = first_batch(tiny_recipe(), shards)
    sector_BHW = torch.zeros(4, 40, 40, dtype=torch.bool)
    sector_BHW[:, 10:30, 8:32] = True
    inside = sector_BHW[:, None, None]
    field = torch.where(inside, torch.tensor([3.0, -1.0])[:, None, None], 0.0).expand(4, 8, 2, 40, 40).clone()
    field[:, -1] = torch.nan
    held = replace(
        batch,
        sector_BHW=sector_BHW,
        mask_BTHW=torch.where(sector_BHW, 2, 0)[:, None].expand(4, 8, 40, 40).byte(),
        paired_BCTHW=batch.video_BCTHW.clone(),
        displacement_px_BT2HW=field,
        velocity_m_per_s_BTHW=field[:, :, 0],
    )
    contract = InputContract(size=20, frames=8, channels=1, frame_rate_hz=25.0)
    fitted = fit_to(held, contract)
    assert torch.equal(fitted.paired_BCTHW, fitted.video_BCTHW)
    assert fitted.mask_BTHW.dtype == torch.uint8 and fitted.mask_BTHW.shape == (4, 8, 20, 20)
    assert ((fitted.mask_BTHW[:, 0] == 2) == fitted.sector_BHW).all() and fitted.mask_BTHW.unique().tolist() == [0, 2]
    moved, still = fitted.displacement_px_BT2HW, fitted.velocity_m_per_s_BTHW
    there = fitted.sector_BHW
    assert (moved[:, 0, 0][there] - 1.5).abs().max() < 1e-5 and (moved[:, 0, 1][there] + 0.5).abs().max() < 1e-5
    assert (still[:, 0][there] - 3).abs().max() < 1e-5 and not moved[:, 0, :, :3].any()
    assert moved[:, -1].isnan().all() and still[:, -1].isnan().all()


def replace_size(contract: InputContract, size: int, *, channels: int) -> InputContract:
    return contract.model_copy(update={"size": size, "channels": channels})


def test_checkpointing_changes_nothing(shards: ShardSet) -> None:
    recipe = tiny_recipe()
    gradients = []
    for enabled in (False, True):
        task = PretrainTask(recipe.model_copy(update={"grad_checkpointing": enabled}))
        batch = task.prepare(first_batch(recipe, shards))
        alone(task, batch).loss.backward()
        gradients.append([p.grad for p in task.net.parameters()])
        assert ("--grad-checkpointing" in task.advice()) is not enabled
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients))


def test_held_out_phases_are_those_of_the_window(shards: ShardSet) -> None:
    contract = InputContract(size=32, frames=8, channels=1, frame_rate_hz=25.0)
    held = held_out(shards.split("val"), contract, clips=16, carry=["phase"])
    assert len(held) == 3 and held.video_BCTHW.shape == (3, 1, 8, 40, 40) and held.phase_BT is not None
    for index, clip in enumerate(shards.split("val")):
        # Every second frame of 50 Hz from the middle window's first one.
        (first,) = [s for s in range(48) if shown(clip.frames_TCHW[s : s + 16 : 2], held, index, contract)]
        assert clip.phase_T is not None
        away = circular_distance(held.phase_BT[index], torch.from_numpy(clip.phase_T[first : first + 16 : 2]))
        assert away.max() < 1 / FRAME_RATE_HZ


def shown(frames_TCHW: np.ndarray, batch: ClipBatch, index: int, contract: InputContract) -> bool:
    if len(frames_TCHW) < contract.frames:
        return False
    video = torch.from_numpy(np.ascontiguousarray(frames_TCHW))[None].transpose(1, 2).float() / 255
    return torch.allclose(video[0], batch.video_BCTHW[index], atol=1e-6)


def test_no_held_out_clips_is_an_error_with_the_fix(shards: ShardSet) -> None:
    with pytest.raises(EchofmError, match=r"`echofm shards --split-by hash`.*--monitor\.every 0"):
        held_out(replace(shards, records=[]), InputContract(size=32, frames=8), clips=4)


def test_clips_without_a_known_phase_are_measured_by_the_prior(tmp_path: Path) -> None:
    shards = ShardSet.open(write_heart_shards(tmp_path / "shards", train=2, val=3, with_phase=False))
    task = PretrainTask(tiny_recipe(frames=16, predicted_frames=8), shards)
    task.net.eval()
    with torch.no_grad():
        figures = task.validate({"model": task.net}, 0)
    assert np.isfinite([figures[name] for name in ("prior_correlation", "phase_contrast", "rankme", "psnr_db")]).all()


def test_collapse_is_noticed_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not collapsed({"rankme": 5.0, "embedding_std": 0.3})
    assert collapsed({"rankme": 1.2, "embedding_std": 0.3}) and collapsed({"rankme": 5.0, "embedding_std": 0.001})
    lines: list[str] = []
    monkeypatch.setattr("pretrain.validate.console.print", lambda text, **_: lines.append(text))
    warn({"rankme": 1.2, "embedding_std": 0.3, "collapsed": 1.0}, 40, positions_only=False)
    assert "COLLAPSE" in lines[0] and "step 40" in lines[0] and "--fit.optim.base-lr" in lines[0]


def test_a_collapsed_teacher_is_seen(shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("pretrain.validate.console.print", lambda text, **_: lines.append(text))
    recipe = tiny_recipe(objective=CURVES["pretrain_latent_curve"])
    task = PretrainTask(recipe, shards)
    updater, batches = Updater(task, recipe.fit), batches_of(recipe, shards)
    updater(next(batches), step=1)
    teacher = updater.players[0].measured
    with torch.no_grad():
        assert task.validate({"model": teacher}, recipe.monitor.every)["collapsed"] == 0 and not lines
        # Whatever the clip shows, all features are one vector: a perfect prediction of nothing.
        teacher.encoder.norm.weight.zero_()
        assert task.validate({"model": teacher}, recipe.monitor.every)["collapsed"] == 1
    assert "COLLAPSE" in lines[0] and "--fit.ema-decay" in lines[0]


def test_the_target_is_the_running_mean_of_the_whole_clip(shards: ShardSet) -> None:
    """Standardised, without gradient; a teacher that sees other clips gives another loss."""
    recipe = tiny_recipe(objective=CURVES["pretrain_latent_curve"])
    task = PretrainTask(recipe)
    batch = first_batch(recipe, shards)
    seen = {"draw_B": batch.draw_B}
    small = torch.nn.functional.interpolate(batch.video_BCTHW[:, :, :8, :32, :32], size=(8, 32, 32))
    with torch.no_grad():
        whole = task.net.encoder(small)
        own, given, other = (
            task.net(small, **seen, target_BND=target).figures["latent"] for target in (None, whole, whole.flip(0))
        )
    assert own == given and own != other
    scaled = task.net(small, **seen, target_BND=3 * whole.requires_grad_() + 1).figures["latent"]
    assert scaled.item() == pytest.approx(own.item(), rel=1e-3)
    scaled.backward()
    assert whole.grad is None


def test_features_are_predicted_of_a_running_mean(shards: ShardSet) -> None:
    recipe = tiny_recipe()
    fit = recipe.fit.model_copy(update={"ema_decay": None})
    with pytest.raises(ValueError, match=r"--fit\.ema-decay"):
        PretrainRecipe(**{**dict(recipe), "fit": fit, "objective": ObjectiveConfig(latent={"weight": 1})})


def test_an_encoder_that_knows_positions_alone_is_shown_when_it_lasts(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("pretrain.validate.console.print", lambda text, **_: lines.append(text))
    recipe, shares = tiny_recipe(), iter([0.99, 0.99, 0.3, 0.95, 0.99])
    monkeypatch.setattr("pretrain.validate.position_share", lambda _: next(shares))
    task = PretrainTask(recipe, shards)
    for step in range(0, 5 * recipe.monitor.every, recipe.monitor.every):
        with torch.no_grad():
            task.validate({"model": task.net.eval()}, step)
    steps = [text.split("step ")[1].split(":")[0] for text in lines if "NO HEART YET" in text]
    # Untrained (step 0) it is no news, and once is not yet lasting.
    assert steps == [str(4 * recipe.monitor.every)]


def test_colour_shards_need_a_colour_model(shards: ShardSet) -> None:
    settings = shards.manifest.settings.model_copy(update={"channels": 3})
    coloured = replace(shards, manifest=shards.manifest.model_copy(update={"settings": settings}))
    with pytest.raises(EchofmError, match=r"--network\.channels 3"):
        PretrainTask(tiny_recipe(), coloured)


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = write_heart_shards(Path(folder) / "s", train=10, val=3, frames=48, size=40)
        for name, objective in CURVES.items():
            found = curve(ShardSet.open(made), objective)
            (GOLDEN / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
