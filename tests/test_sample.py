"""Sets of generated clips: layout, provenance, the same clip whatever the run, going on, refusals, the command."""

from __future__ import annotations

import json
import os
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_and_sets import write_encoder_and_sets
from heart_shards import read_heart, write_heart_shards
from labelled_hearts import write_labelled_hearts
from pretrain_process import environments_of_two, finish, forked
from tiny_generator import tiny_generator

from echofm.cli import main
from echofm.errors import EchofmError
from echofm.hub import load_model, save_model
from echofm.phantom.video import write_mjpeg
from echofm.readers.limits import Limits
from echofm.readers.source import Row
from echofm.readers.video import decode_video
from synth.condition import Condition
from synth.generator.cli import SampleSet
from synth.generator.config import GeneratorRecipe
from synth.generator.judge import Judge
from synth.generator.model import Generator
from synth.generator.recipes import video_ef, video_motion
from synth.generator.sampler import Guidance

CONDITIONS = ("ef", "phase", "view", "reference")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with what it exported."""
    torch.manual_seed(0)
    generator, folder = tiny_generator(CONDITIONS), tmp_path_factory.mktemp("run") / "export"
    save_model(generator, folder, contract=generator.contract, card={})
    return folder.parent


def sampled(run: Path, out: Path, *words: str) -> Path:
    assert main(["synth", "sample", str(run), "--out", str(out), "--steps", "2", *words]) == 0
    return out


def pixels(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "Videos").iterdir())}


def test_a_set_is_echonet_dynamics_and_says_where_it_comes_from(run: Path, tmp_path: Path) -> None:
    out = sampled(run, tmp_path / "set", "--count", "5", "--ef", "30,60", "--view", "A4C")
    assert {path.name for path in out.iterdir()} == {
        "FileList.csv", "Videos", "index.html", "provenance.jsonl", "set.json",
    }  # fmt: skip
    # Noise has no sector to find.
    words = ["--size", "16", "--fps", "native", "--keep-outside"]
    assert main(["shards", str(out), str(tmp_path / "shards"), *words]) == 0
    from echofm.shards.read import ShardSet

    shards = ShardSet.open(tmp_path / "shards", show_progress=False)
    assert shards.manifest.dataset == "echonet-dynamic" and len(shards) == 5
    assert sorted(record.meta.labels["ef_percent"] for record in shards.records) == [30, 30, 30, 60, 60]
    assert {record.meta.view for record in shards.records} == {"A4C"}
    clip = shards.clip(0)
    assert clip.frames_TCHW.shape == (4, 1, 16, 16) and clip.frame_rate_hz == pytest.approx(12.5)
    lines = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert [line["condition"]["ef_percent_B"] for line in lines] == [30, 60, 30, 60, 30]
    assert len({line["draw"] for line in lines}) == 5 and len(lines[0]["condition"]["phase_BT"]) == 4
    settings = json.loads((out / "set.json").read_text())
    assert len(settings["generator"]) == len(settings["codec"]) == 64 and settings["seed"] == 0
    page = (out / "index.html").read_text()
    assert page.count("data:image/webp") == 5 and "EF 30 %" in page


def test_frames_by_view_and_time_point_and_by_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    for name, conditions in (("classes", ("view", "time-point")), ("text", ("text",))):
        generator = tiny_generator(conditions, frames=1)
        save_model(generator, tmp_path / name / "export", contract=generator.contract, card={})
    classes = tmp_path / "classes"
    made = [
        pixels(sampled(classes, tmp_path / f"{view}-{point}", "--count", "1", "--view", view, "--time-point", point))
        for view in ("A4C", "PLAX")
        for point in ("ED", "ES")
    ]
    assert len({file for each in made for file in each.values()}) == 4
    prompts = ("A4C, EF 35 %, end-sistole", "PLAX")
    out = sampled(tmp_path / "text", tmp_path / "set", "--count", "3", "--text", *prompts)
    assert "'sistole' is not known and is left out; nearest: 'systole'" in capsys.readouterr().err
    lines = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert [line["condition"]["texts"] for line in lines] == [prompts[0], prompts[1], prompts[0]]
    assert [row.split(",")[1] for row in (out / "FileList.csv").read_text().splitlines()[1:]] == [
        "35.000",
        "",
        "35.000",
    ]


@pytest.mark.parametrize("recipe", [video_ef.published(), video_motion.published()], ids=["ef", "motion"])
def test_the_published_unets_are_sampled_end_to_end(recipe: GeneratorRecipe, tmp_path: Path) -> None:
    """Narrow, of few frames, on latents that are padded to a multiple of 8."""
    torch.manual_seed(0)
    network = recipe.network.model_copy(update={"width": 32, "depth": 1})
    conditions = tuple(name for name in recipe.conditions if name != "motion")
    generator = tiny_generator(conditions, path=recipe.path, size=14, network=network)
    save_model(generator, tmp_path / "run" / "export", contract=generator.contract, card={})
    asked = ["--ef", "30,60"] if "ef" in conditions else []
    out = sampled(tmp_path / "run", tmp_path / "set", "--count", "2", *asked)
    whole = generator.sample(Condition.of(1, frames=4, ef_percent=30) if asked else None, steps=2, seed=0)
    with (out / "Videos" / "synthetic-000000.avi").open("rb") as file:
        clip = decode_video(file, container="avi", channels=1, limits=Limits())
    assert clip.frames_TCHW.shape == (4, 1, 14, 14) and len(set(pixels(out).values())) == 2
    assert np.abs(clip.frames_TCHW / 255 - whole[0].transpose(0, 1).numpy()).mean() < 0.1


def test_a_clip_does_not_depend_on_the_others(run: Path, tmp_path: Path) -> None:
    """Neither on their number, nor on a break, nor on the seed of another set."""
    five = pixels(sampled(run, tmp_path / "five", "--count", "5", "--ef", "uniform"))
    grown = sampled(run, tmp_path / "grown", "--count", "2", "--ef", "uniform")
    (grown / "Videos" / "synthetic-000001.avi").unlink()
    assert pixels(sampled(run, grown, "--count", "5", "--ef", "uniform")) == five
    assert len(set(five.values())) == 5
    other = pixels(sampled(run, tmp_path / "other", "--count", "5", "--ef", "uniform", "--seed", "1"))
    assert not set(other.values()) & set(five.values())


def one_of_two(environment: dict[str, str], run: Path, out: Path) -> None:
    """Target of a process."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    sampled(run, out, "--count", "5", "--ef", "train")


def test_two_processes_make_the_same_set(run: Path, tmp_path: Path) -> None:
    one = sampled(run, tmp_path / "one", "--count", "5", "--ef", "train")
    finish(*[forked(one_of_two, environment, run, tmp_path / "two") for environment in environments_of_two()])
    two = tmp_path / "two"
    assert pixels(two) == pixels(one)
    for name in ("FileList.csv", "provenance.jsonl", "set.json", "index.html"):
        assert (two / name).read_bytes() == (one / name).read_bytes(), name


def test_longer_clips_and_the_first_frames_of_real_ones(run: Path, tmp_path: Path) -> None:
    hearts = write_labelled_hearts(tmp_path / "hearts")
    out = sampled(run, tmp_path / "set", "--count", "3", "--length", "0.8", "--reference", f"{hearts}:val")
    lines = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert len({line["reference_clip"] for line in lines}) == 3
    assert len(lines[0]["condition"]["phase_BT"]) == 10


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--ef", "0.55"], "percent"),
        (["--ef", "many"], "--ef 'many'"),
        (["--view", "A3C"], "no view 'A3C'"),
        (["--count", "0"], "--count 0"),
        (["--reference", "nowhere"], "SHARDS:SPLIT"),
        (["--filter", "enc"], "--against"),
        (["--filter", "HEAD", "--against", "SHARDS"], "--filter takes an encoder, not a re-identification head"),
    ],
)
def test_what_cannot_be_is_refused_before_work(
    run: Path, tmp_path: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "config.json").write_text(json.dumps({"format": "echofm-reid"}))
    words = [str(tmp_path / "head") if word == "HEAD" else word for word in words]
    assert main(["synth", "sample", str(run), "--out", str(tmp_path / "set"), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_another_sets_folder_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = sampled(run, tmp_path / "set", "--count", "1")
    assert main(["synth", "sample", str(run), "--out", str(out), "--count", "1", "--seed", "1"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_the_filter_takes_copies_out_and_makes_others(run: Path, tmp_path: Path) -> None:
    from synth.generator.plan import Asked, Plan
    from synth.generator.sample_set import How, SyntheticSet, accepted
    from synth.generator.sampling import open_generator

    generator = open_generator(str(run), device="cpu")
    made = SyntheticSet(tmp_path / "set", generator, Plan(generator, Asked()), How(steps=1), settings={})
    kept, removed = accepted(made, 4, lambda numbers: [number for number in numbers if number % 2])
    assert kept == [0, 2, 4, 6] and removed == 3 and len(pixels(tmp_path / "set")) == 7
    with pytest.raises(EchofmError, match="copies"):
        accepted(made, 2, lambda numbers: numbers)


def test_from_python_as_the_docs_have_it(run: Path) -> None:
    docs = (Path(__file__).parents[1] / "docs" / "generators.md").read_text()
    code = docs.partition("## Conditions")[2].partition("```python\n")[2].partition("```")[0]
    held: dict[str, torch.Tensor] = {}
    # The generator here makes 4 frames, not 16.
    exec(code.replace("RUN/export", str(run / "export")).replace("frames=16", "frames=4"), held)
    assert held["video_BCTHW"].shape == (4, 1, 4, 16, 16)


def test_another_frame_rate_is_refused(run: Path) -> None:
    condition = Condition.of(1, frames=4, frame_rate_hz=50, heart_rate_bpm=70, first_phase=0)
    with pytest.raises(EchofmError, match=r"50 frames a second are asked, the generator makes 12\.5"):
        load_model(run / "export").sample(condition)


@pytest.mark.slow
def test_the_audits_rule_takes_copies_out(tmp_path: Path) -> None:
    """Of six clips of which every third is a training clip; what cannot judge is refused before."""
    write_encoder_and_sets(tmp_path)
    shards = write_heart_shards(tmp_path / "hearts", train=4, val=20, frames=24, size=32)
    files = {number: tmp_path / f"{number}.avi" for number in range(6)}
    for number, file in files.items():
        seed = number if number % 3 == 0 else 100 + number
        clip = read_heart(Row(path=Path(f"heart-{seed}"), patient="Doe^Jane", split="train"), frames=24, size=32)
        write_mjpeg(file, clip.frames_TCHW.transpose(0, 2, 3, 1), 50.0)
    judge = Judge.open(str(tmp_path / "encoder"), shards)
    assert {0, 3} <= set(judge(files)) < set(files)
    few = write_heart_shards(tmp_path / "few", train=4, val=3, frames=24, size=32)
    with pytest.raises(EchofmError, match="3 held-out patients"):
        Judge.open(str(tmp_path / "encoder"), few)
    with pytest.raises(EchofmError):
        Judge.open(str(tmp_path / "nowhere"), shards)


def test_guidance_of_one_is_none_and_a_larger_one_exaggerates() -> None:
    """At 1, the default, the network is not asked without the condition."""
    torch.manual_seed(0)
    generator, time_B = tiny_generator(CONDITIONS), torch.tensor([0.5, 0.5])
    condition = generator.check(Condition.of(2, frames=4, ef_percent=[30, 60]), 2, 4)
    conditioner, net = generator.denoiser.conditioner, generator.denoiser.predictor
    noisy, still_B = torch.randn(2, 1, 4, 16, 16), torch.zeros(2)
    asked = net(conditioner(condition, 4))(noisy, time_B, still_B)
    unasked = net(conditioner(condition.without(["ef_percent_B"]), 4))(noisy, time_B, still_B)
    calls: list[object] = []
    generator.denoiser.network.register_forward_hook(lambda *_: calls.append(None))
    for guidance, expected, count in ((Guidance(), asked, 1), (Guidance(scale=3), unasked + 3 * (asked - unasked), 2)):
        calls.clear()
        torch.testing.assert_close(generator.guided(condition, 4, guidance)(noisy, time_B, still_B), expected)
        assert len(calls) == count
    assert not torch.equal(asked, unasked)
    default = signature(Generator.sample).parameters["guidance"].default
    assert default == SampleSet(run="", out=Path()).guidance == Guidance().scale == 1


def test_a_generator_of_one_step_is_guided() -> None:
    """Its network is called at time 1, where a flow's is not."""
    torch.manual_seed(0)
    generator = tiny_generator(CONDITIONS, path="average-velocity")
    condition = Condition.of(2, frames=4, ef_percent=[30, 60])
    made = [generator.sample(condition, steps=1, guidance=scale) for scale in (1.0, 3.0)]
    assert not torch.equal(*made)
