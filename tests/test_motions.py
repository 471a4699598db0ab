"""Motion that a generator is given: from a prior, which returns nobody's, or a table; beginning from another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from labelled_hearts import write_labelled_hearts

from echofm.cli import main
from echofm.contract import InputContract
from echofm.engine.config import FitConfig, MonitorConfig, OptimConfig
from echofm.engine.held_out import held_out
from echofm.engine.update import Updater
from echofm.errors import EchofmError
from echofm.hub import load_model, save_model
from echofm.model.config import EncoderConfig
from echofm.shards.read import ShardSet
from synth.generator.config import DataConfig, GeneratorRecipe, NetworkConfig
from synth.generator.model import Generator
from synth.generator.motions import PriorMotions, open_motions
from synth.generator.plan import Asked, Plan
from synth.generator.prior import prior_task
from synth.generator.task import GeneratorTask
from synth.latent.codec import MotionCodec, PixelCodec
from synth.mafe.config import MafeConfig
from synth.mafe.extract import MotionEncoder
from synth.mafe.network import Mafe

SEES = EncoderConfig(size=16, frames=8, channels=1, patch=8, tubelet=2, width=16, depth=1, heads=2)


def recipe(*conditions: str, patch: int, steps: int) -> GeneratorRecipe:
    optim = OptimConfig(base_lr=0.32, warmup_steps=2, weight_decay=0.0, max_grad_norm=1.0)
    return GeneratorRecipe(
        name="demo",
        fit=FitConfig(steps=steps, batch=8, workers=0, ema_decay=0.9, optim=optim),
        monitor=MonitorConfig(every=0),
        network=NetworkConfig(width=16, depth=1, heads=2, patch=patch),
        data=DataConfig(frames=4, frame_rate_hz=12.5),
        conditions=conditions,
    )


def trained(task: GeneratorTask, made: GeneratorRecipe, shards: ShardSet, folder: Path) -> Path:
    updater, batches = Updater(task, made.fit), task.batches(shards, made.fit, start_step=0)
    for step in range(1, made.fit.steps + 1):
        updater(next(batches), step=step)
    task.export(folder / "export", {"generator": task.net}, card={})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hearts, a motion network, a prior on it and a generator that takes its motion."""
    folder = tmp_path_factory.mktemp("motions")
    shards = ShardSet.open(write_labelled_hearts(folder / "hearts"), show_progress=False)
    torch.manual_seed(1)
    mafe = Mafe(MafeConfig(encoder=SEES))
    save_model(mafe, folder / "mafe" / "export", contract=mafe.config.contract, card={})
    mafe = load_model(folder / "mafe" / "export").eval()
    prior = recipe("ef", "phase", patch=1, steps=100)
    trained(prior_task(prior, shards, motion=mafe), prior, shards, folder / "prior")
    moving = recipe("motion", "reference", patch=8, steps=30)
    task = GeneratorTask(moving, shards, codec=PixelCodec(size=16), motion=MotionEncoder(mafe))
    trained(task, moving, shards, folder / "moving")
    return folder


def motions(made: Path, count: int) -> torch.Tensor:
    """Of a prior, by ejection fractions and phases that are drawn."""
    generator = load_model(made / "moving" / "export")
    plan = Plan(generator, Asked(ef="train", motion=open_motions(str(made / "prior"), generator)))
    found = plan.condition(range(count)).motion_BND
    assert found is not None
    return found


def test_a_prior_returns_no_training_patients_motion(made: Path) -> None:
    """The nearest training window is further than another window of the same patient is, and draws are unlike."""
    drawn = motions(made, 12).flatten(1)
    prior = load_model(made / "prior" / "export")
    assert isinstance(prior.codec, MotionCodec)
    shards = ShardSet.open(made / "hearts", show_progress=False)
    contract = InputContract(size=16, frames=4, frame_rate_hz=12.5)
    train = held_out(shards.split("train"), contract, clips=8).video_BCTHW
    numbers = prior.codec.decode(prior.codec.encode(train))
    known = prior.codec.motion_BND(numbers, 4).flatten(1)
    assert known.shape == (8, drawn.shape[1]) and torch.cdist(drawn, known).min() > 0.1 * torch.pdist(known).mean()
    assert torch.pdist(drawn).min() > 0.1 * torch.pdist(known).mean()
    # Of their size all the same.
    assert 0.3 < float(drawn.std() / known.std()) < 3


def test_the_ejection_fraction_reaches_the_clip_through_the_prior(made: Path) -> None:
    generator = load_model(made / "moving" / "export")
    asked = Asked(ef=[20, 60], motion=open_motions(str(made / "prior"), generator))
    plan, other = Plan(generator, asked), Plan(generator, replace(asked, ef=[60, 20]))
    one, two = plan.condition([0]), other.condition([0])
    assert "ef_percent_B" not in one.held() and not torch.equal(one.motion_BND, two.motion_BND)
    clips = [generator.sample(each, steps=2, draw_B=plan.draw_B([0])) for each in (one, two, plan.condition([0]))]
    assert torch.equal(clips[0], clips[2]) and not torch.equal(clips[0], clips[1])


def test_a_set_with_motion_says_where_it_comes_from(made: Path, tmp_path: Path) -> None:
    words = ["synth", "sample", str(made / "moving"), "--count", "3", "--steps", "2"]
    out = tmp_path / "set"
    assert main([*words, "--motion", str(made / "prior"), "--ef", "20,60", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert [line["condition"]["ef_percent_B"] for line in lines] == [20, 60, 20] and "motion_clip" not in lines[0]
    assert json.loads((out / "set.json").read_text())["motion"].startswith("prior ")
    table = tmp_path / "table"
    named = ["--windows", "1", "--pictures", "0", "--cache", str(tmp_path / "cache")]
    assert main(["synth", "motion", str(made / "mafe"), str(made / "hearts"), str(table), *named]) == 0
    again = tmp_path / "again"
    assert main([*words, "--motion", str(table), "--out", str(again)]) == 0
    lines = [json.loads(line) for line in (again / "provenance.jsonl").read_text().splitlines()]
    assert len({line["motion_clip"] for line in lines}) == 3
    files = [{each.read_bytes() for each in (folder / "Videos").iterdir()} for folder in (out, again)]
    assert len(files[0] | files[1]) == 6


@pytest.mark.parametrize(
    ("run", "words", "problem"),
    [
        ("moving", ["--motion", "MADE/moving"], "makes no motion"),
        ("moving", ["--motion", "MADE/prior", "--length", "1"], "leave --length out"),
        ("moving", ["--motion", "MADE/prior", "--ef", "0.55"], "percent"),
        ("moving", ["--ef", "50"], "takes no ef_percent_B"),
        ("prior", ["--motion", "MADE/prior"], "video-motion"),
        ("prior", ["--ef", "50"], "makes motion, not clips"),
    ],
)
def test_what_does_not_fit_is_refused_before_work(
    made: Path, tmp_path: Path, run: str, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("MADE", str(made)) for word in words]
    assert main(["synth", "sample", str(made / run), "--out", str(tmp_path / "set"), *words]) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "set").exists()


def test_motion_of_another_network_is_refused(made: Path) -> None:
    generator = load_model(made / "moving" / "export")
    config = generator.config.model_copy(update={"motion": "0" * 64})
    with pytest.raises(EchofmError, match="another motion network"):
        open_motions(str(made / "prior"), Generator(config, generator.denoiser, generator.codec))
    assert isinstance(open_motions(str(made / "prior"), generator), PriorMotions)


def test_a_generator_begins_from_another(made: Path) -> None:
    """What both have is taken, what only one has is its own; another network or codec is refused."""
    shards, given = ShardSet.open(made / "hearts", show_progress=False), load_model(made / "moving" / "export")
    task = GeneratorTask(recipe("ef", "reference", patch=8, steps=1), shards, codec=PixelCodec(size=16))
    task.begin_from(given)
    own, other = task.net.state_dict(), given.denoiser.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own.keys() & other.keys())
    assert any("ejection" in name or "parts.ef" in name for name in own.keys() - other.keys())
    assert list(task.digests()) == ["initial weights"]
    unlike = GeneratorTask(recipe("ef", patch=8, steps=1), shards, codec=PixelCodec(size=16))
    with pytest.raises(EchofmError, match="--init: its network is another"):
        unlike.begin_from(given)
    with pytest.raises(EchofmError, match="--init: a generator of another codec"):
        task.begin_from(load_model(made / "prior" / "export"))
