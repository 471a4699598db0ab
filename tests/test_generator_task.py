"""GeneratorTask on the engine: curves, killing, processes, accumulation, what is exported, refusals by name."""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled_hearts import write_labelled_hearts
from pretrain_process import environments_of_two, finish, forked
from safetensors.torch import load_file
from tiny_generator import tiny_generator

import echofm
from echofm.contract import InputContract
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from echofm.engine.fit import fit
from echofm.engine.monitor import Monitor
from echofm.engine.run import Run
from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.hub import Encoder, config_of
from echofm.model.config import EncoderConfig
from echofm.model.vit import VideoEncoder
from echofm.shards.latents import write_latents
from echofm.shards.manifest import Latents
from echofm.shards.read import ShardSet
from synth.condition import Condition
from synth.condition_field import Sizes
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig, RepaConfig
from synth.generator.denoiser import Denoiser
from synth.generator.prior import prior_task
from synth.generator.task import GeneratorTask
from synth.latent.codec import PixelCodec
from synth.mafe.config import MafeConfig
from synth.mafe.extract import MotionEncoder
from synth.mafe.network import Mafe

FEW, CURVE = 4, Path(__file__).parent / "golden" / "generator_curves.json"
# As each recipe has it, at a size that takes a second.
RECIPES: dict[str, dict[str, Any]] = {
    "image": {"conditions": ("view", "label-map"), "data": DataConfig(frames=1)},
    "text": {"conditions": ("text",), "data": DataConfig(frames=1)},
    "text-map": {"conditions": ("text", "time-point", "label-map"), "data": DataConfig(frames=1)},
    "control": {"control": ("label-map",), "data": DataConfig(frames=1)},
    "video-ef": {"conditions": ("ef", "phase", "view", "reference")},
    "x-prediction": {"conditions": ("ef", "heart-rate"), "path": "data-flow"},
    "v-prediction": {"conditions": ("ef", "reference"), "path": "diffusion"},
    "video-motion": {"conditions": ("motion", "reference")},
    "aligned": {"conditions": ("embedding",), "repa": RepaConfig(weight=0.5, until=0.5)},
    "prior": {"conditions": ("ef", "phase"), "network": NetworkConfig(width=16, depth=1, heads=2, patch=1)},
    "video-onestep": {"conditions": ("ef", "phase", "reference"), "path": "average-velocity"},
    "unet": {
        "conditions": ("ef", "reference"),
        "path": "diffusion",
        "network": NetworkConfig(kind="unet", width=32, depth=1),
    },
}
# Minutes on a busy core.
NAMES = [pytest.param(name, marks=pytest.mark.slow if name == "unet" else ()) for name in RECIPES]


def recipe_of(name: str, **fit: Any) -> GeneratorRecipe:
    optim = OptimConfig(base_lr=0.32, warmup_steps=2, weight_decay=0.0, max_grad_norm=1.0)
    settings = {"steps": FEW, "batch": 4, "log_every": 1, "save_every": 2, "workers": 0, "ema_decay": 0.9, **fit}
    return GeneratorRecipe(
        name="demo",
        fit=FitConfig(optim=optim, **settings),
        monitor=MonitorConfig(every=100, clips=3),
        **{
            "network": NetworkConfig(width=16, depth=2, heads=2, patch=8),
            "data": DataConfig(frames=4, frame_rate_hz=12.5),
            **RECIPES[name],
        },
    )


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_hearts(tmp_path_factory.mktemp("hearts") / "shards")


def task_of(recipe: GeneratorRecipe, hearts: Path) -> GeneratorTask:
    """With an encoder or a motion network of 8 frames at 25 Hz where the recipe takes one."""
    torch.manual_seed(1)
    sees = EncoderConfig(size=16, frames=8, channels=1, patch=8, tubelet=2, width=16, depth=1, heads=2)
    networks: dict[str, Any] = {}
    if recipe.network.patch == 1:
        return prior_task(recipe, ShardSet.open(hearts, show_progress=False), motion=Mafe(MafeConfig(encoder=sees)))
    if recipe.repa.weight or "embedding" in recipe.conditions:
        contract = InputContract(size=16, frames=8, frame_rate_hz=25.0)
        net = VideoEncoder(sees)
        networks["encoder"] = Encoder(net, config=config_of(net, card={}, contract=contract))
    if "motion" in recipe.conditions:
        networks["motion"] = MotionEncoder(Mafe(MafeConfig(encoder=sees)))
    if recipe.control:
        networks["base"] = tiny_generator(("text",), frames=1)
    return GeneratorTask(recipe, ShardSet.open(hearts, show_progress=False), codec=PixelCodec(size=16), **networks)


def run(
    folder: Path, hearts: Path, recipe: GeneratorRecipe, *, killed_at: int | None = None, resume: bool = False
) -> None:
    task, shards = task_of(recipe, hearts), ShardSet.open(hearts, show_progress=False)
    opened = Run.open(folder, recipe, env={"data": {}}, resume=resume)

    def batches():  # type: ignore[no-untyped-def]
        given = task.batches(shards, recipe.fit, start_step=opened.start_step)
        for step, batch in enumerate(given, opened.start_step + 1):
            if step == killed_at:
                raise KeyboardInterrupt
            yield batch

    monitor = Monitor(task, every=recipe.monitor.every, steps=recipe.fit.steps, hooks={})
    fit(task, batches(), recipe.fit, opened, monitor=monitor)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / f"state/step_{FEW:08d}/ema.safetensors")


@pytest.fixture(scope="module")
def whole(hearts: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a recipe from one end to the other, made once."""

    @functools.cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "run"
        run(folder, hearts, recipe_of(name))
        return folder

    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_curve_is_the_known_one(name: str, hearts: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", hearts, recipe_of(name, steps=20))
    found, curves = losses(tmp_path / "run"), json.loads(CURVE.read_text()) if CURVE.exists() else {}
    if os.environ.get("ECHOFM_WRITE_GOLDEN"):
        curves[name] = found
        CURVE.write_text(json.dumps(curves, indent=1) + "\n")
    # Other machines round otherwise, and steps add up.
    assert found[:10] == pytest.approx(curves[name][:10], rel=2e-3)
    assert found == pytest.approx(curves[name], rel=2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_is_bit_equal(name: str, whole: Callable[[str], Path], hearts: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", hearts, recipe_of(name), killed_at=4)
    run(tmp_path / "cut", hearts, recipe_of(name), resume=True)
    one, other = state(whole(name)), state(tmp_path / "cut")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_accumulation_equals_the_batch(name: str, whole: Callable[[str], Path], hearts: Path, tmp_path: Path) -> None:
    run(tmp_path / "cut", hearts, recipe_of(name, accumulate=2))
    assert losses(tmp_path / "cut") == pytest.approx(losses(whole(name)), rel=1e-3)


def one_of_two(environment: dict[str, str], folder: Path, hearts: Path, name: str) -> None:
    """Target of a process."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    run(folder, hearts, recipe_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(name: str, whole: Callable[[str], Path], hearts: Path, tmp_path: Path) -> None:
    finish(*[forked(one_of_two, environment, tmp_path / "two", hearts, name) for environment in environments_of_two()])
    assert losses(tmp_path / "two") == pytest.approx(losses(whole(name)), rel=1e-3)
    both = (whole(name), tmp_path / "two")
    figures = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in both]
    assert figures[0]["monitor/val_loss"] == pytest.approx(figures[1]["monitor/val_loss"], rel=1e-3)


def test_the_running_mean_is_exported_and_loads(whole: Callable[[str], Path]) -> None:
    generator, mean = echofm.load_model(whole("video-ef") / "export"), state(whole("video-ef"))
    own = generator.denoiser.state_dict()
    assert own.keys() == {key.removeprefix("generator/") for key in mean}
    assert all(torch.equal(own[key.removeprefix("generator/")], tensor) for key, tensor in mean.items())
    condition = Condition.of(2, frames=4, ef_percent=[30, 60], view="A4C")
    clips = generator.sample(condition, steps=2, seed=0)
    assert clips.shape == (2, 1, 4, 16, 16) and clips.min() >= 0 and clips.max() <= 1
    alone = generator.sample(condition, steps=2, seed=0, batch=2)
    torch.testing.assert_close(alone, clips, atol=1e-5, rtol=0)
    assert not torch.equal(generator.sample(condition, steps=2, seed=1), clips)
    assert generator.sample(condition, steps=2, frames=10).shape == (2, 1, 10, 16, 16)
    guided = generator.sample(condition, steps=2, seed=0, guidance=3)
    assert not torch.equal(guided, clips)
    with pytest.raises(EchofmError, match="no motion_BND"):
        generator.sample(Condition(motion_BND=torch.zeros(1, 2, 3)))


def test_padded_frames_count_for_nothing(hearts: Path) -> None:
    recipe = recipe_of("v-prediction")
    task = task_of(recipe, hearts)
    batch = task.prepare(next(task.batches(ShardSet.open(hearts), recipe.fit, start_step=0)).to("cpu"))
    valid_BT = batch.valid_BT.clone()
    valid_BT[:, -1] = False
    changed = batch.video_BCTHW.clone()
    changed[:, :, -1] += 5
    found = []
    for video in (batch.video_BCTHW, changed):
        short = replace(batch, video_BCTHW=video, valid_BT=valid_BT)
        found.append(task.net(video, task.condition_of(short), batch.draw_B, valid_BT)["path_B"])
    # Only the network's own view of the frame could change it, which at the start is nothing.
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditions": ("motion",)}, "give --motion"),
        ({"conditions": ("embedding",)}, "give --encoder"),
        ({"repa": RepaConfig(weight=0.5)}, "give --encoder"),
        ({"conditions": ("weather",)}, "no condition 'weather'"),
        ({"network": NetworkConfig(width=16, heads=2, patch=5)}, "--network.patch 5"),
        ({"network": NetworkConfig(width=16, heads=3, patch=4)}, "heads"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, Any], words: str, hearts: Path) -> None:
    recipe = recipe_of("video-ef").model_copy(update=changes)
    shards = ShardSet.open(hearts, show_progress=False)
    with pytest.raises(EchofmError, match=words):
        GeneratorTask(recipe, shards, codec=PixelCodec(size=16))


def test_a_motion_network_of_another_duration_is_refused(hearts: Path) -> None:
    changes = {"data": DataConfig(frames=8, frame_rate_hz=12.5), "conditions": ("motion",)}
    recipe = recipe_of("video-ef").model_copy(update=changes)
    with pytest.raises(EchofmError, match=r"--motion sees 0\.32 s"):
        task_of(recipe, hearts)


def test_a_codec_of_larger_clips_is_refused(hearts: Path) -> None:
    with pytest.raises(EchofmError, match="16 pixels a side, the codec takes 64"):
        GeneratorTask(recipe_of("video-ef"), ShardSet.open(hearts), codec=PixelCodec(size=64))


PUBLISHED = ("image", "video_ef", "video_motion", "video_onestep")
SIZES = [(name, size) for name in (*PUBLISHED, "prior", "text", "text_map") for size in ("demo", "base")]


@pytest.mark.parametrize(("name", "size"), [*SIZES, *((name, "published") for name in PUBLISHED)])
def test_every_recipe_builds(name: str, size: str) -> None:
    recipe = getattr(importlib.import_module(f"synth.generator.recipes.{name}"), size)()
    tokens = {"motion_BND": (16, 192)}
    sizes = Sizes(width=recipe.network.width, latent=(4, 16, 16), views=("A4C",), tokens=tokens)
    with torch.device("meta"):
        net = Denoiser(recipe.network, path=recipe.path, conditions=recipe.conditions, sizes=sizes)
    assert sum(weight.numel() for weight in net.parameters()) > 2e6 and recipe.name == size


@pytest.mark.parametrize("name", ["video-ef", "video-motion", "aligned", "image", "text-map", "rates"])
def test_after_training_every_condition_changes_the_clip_and_the_null_is_trained(name: str, hearts: Path) -> None:
    """Among them the rates, of consecutive frames at any rate."""
    free = {"conditions": ("heart-rate", "frame-rate"), "data": DataConfig(frames=4, frame_rate_hz=None)}
    changes = free if name == "rates" else {}
    recipe = recipe_of("x-prediction" if changes else name, steps=30).model_copy(update=changes)
    task, shards = task_of(recipe, hearts), ShardSet.open(hearts, show_progress=False)
    updater, batches = Updater(task, recipe.fit), task.batches(shards, recipe.fit, start_step=0)
    nulls = {key: weight.detach().clone() for key, weight in task.net.named_parameters() if key.endswith("null")}
    for step in range(1, 31):
        batch = next(batches)
        updater(batch, step=step)
    assert all(not torch.equal(weight, nulls[key]) for key, weight in task.net.named_parameters() if key in nulls)
    generator = task.generator(task.net)
    condition = task.condition_of(task.prepare(batch.to("cpu")))
    made = generator.sample(condition, steps=2, frames=recipe.data.frames)
    for field in task.net.conditioner.fields:
        value = condition.held()[field.field]
        turned = [*value[1:], *value[:1]] if isinstance(value, list) else torch.roll(value, 1, 0)
        turned = value / 2 if name == "rates" else turned  # All hearts have one frame rate.
        other = generator.sample(replace(condition, **{field.field: turned}), steps=2, frames=recipe.data.frames)
        assert not torch.equal(other, made), field.field
        unknown = generator.sample(condition.without([field.field]), steps=2, frames=recipe.data.frames)
        assert not torch.equal(unknown, made), field.field


def test_stored_latents_train_the_same_and_those_of_another_codec_are_refused(hearts: Path, tmp_path: Path) -> None:
    codec, pixels = PixelCodec(size=16), ShardSet.open(hearts, show_progress=False)
    about = {"scale": 1, "mean_C": (0.0,), "std_C": (1.0,)}
    for name, digest in (("own", codec.digest), ("other", "0" * 64)):
        write_latents(
            pixels,
            tmp_path / name,
            encode=lambda clip: clip.frames_TCHW / np.float32(127.5) - 1,
            latents=Latents(codec_digest=digest, **about),  # type: ignore[arg-type]
            show_progress=False,
        )
    recipe, found = recipe_of("video-ef"), []
    for shards in (pixels, ShardSet.open(tmp_path / "own", latents=True, show_progress=False)):
        task = GeneratorTask(recipe, shards, codec=codec)
        updater, batches = Updater(task, recipe.fit), task.batches(shards, recipe.fit, start_step=0)
        found.append(updater(next(batches), step=1).figures["loss"])
        figures = task.validate({"generator": task.net}, 0)
        assert float(figures["val_loss"]) > 0 and figures["picture"].shape[2] == 3  # type: ignore[union-attr]
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    other = ShardSet.open(tmp_path / "other", latents=True, show_progress=False)
    with pytest.raises(EchofmError, match=f"latents of codec 000000000000, --codec is {codec.digest[:12]}"):
        GeneratorTask(recipe, other, codec=codec)
