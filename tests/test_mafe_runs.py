"""Training motion features as a user does: golden curves, killed and resumed, two processes, what is exported."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heart_shards import write_heart_shards
from pretrain_process import environments_of_two, finish, forked, records, wait_for_step, weights_sha256

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import load_model, save_model
from echofm.model.mae import VideoMae
from echofm.shards.read import ShardSet
from pretrain.recipes import RECIPES
from synth.mafe import lessons
from synth.mafe.batch import lesson_batches
from synth.mafe.modes import load_modes
from synth.mafe.motion import main as motion
from synth.mafe.network import Mafe
from synth.train import main

GOLDEN = Path(__file__).parent / "golden" / "mafe_loss_curves.json"
STEPS = 20


def make_encoder(folder: Path) -> Path:
    recipe = RECIPES["demo"]()
    small = {"size": 32, "frames": 8, "width": 32, "depth": 1, "heads": 2, "decoder_width": 16, "predicted_frames": 4}
    network = recipe.network.model_copy(update=small)
    torch.manual_seed(0)
    contract = recipe.contract.model_copy(update={"size": 32, "frames": 8})
    return save_model(VideoMae(network, recipe.masking, recipe.objective), folder, contract=contract, card={})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 32 pixels, ten training hearts, with their lessons; an encoder."""
    home = tmp_path_factory.mktemp("Doe_Jane")
    write_heart_shards(home / "shards", train=10, val=3, frames=60, size=32)
    make_encoder(home / "encoder")
    for recipe in ("demo", "published_small"):
        main(words(home, home / f"unbroken-{recipe}", recipe))
    return home


def words(home: Path, run: Path, recipe: str, *more: str) -> list[str]:
    encoder = ["--encoder", str(home / "encoder")] if recipe == "demo" else []
    fit = f"steps {STEPS} batch 4 save-every 5 log-every 1 ema-decay 0.9 optim.warmup-steps 3"
    options = [word if place % 2 else f"--fit.{word}" for place, word in enumerate(fit.split())]
    monitor = ["--monitor.every", "10", "--monitor.clips", "3", "--teachers.lessons", "3"]
    return ["mafe", recipe, "--data", str(home / "shards"), "--out", str(run), *encoder, *options, *monitor, *more]


def trained_on(run: Path) -> list[dict[str, Any]]:
    clock = ("clips_per_s", "data_wait_share", "eta_s")
    return [{name: value for name, value in record.items() if name not in clock} for record in records(run)]


def losses(run: Path) -> list[dict[str, float]]:
    return [{name: each[name] for name in each if name.endswith("loss")} for each in records(run) if each["step"]]


@pytest.mark.parametrize("recipe", ["demo", "published_small"])
def test_golden_curve(recipe: str, home: Path) -> None:
    """Any change of network, loss, lesson, draw or optimizer shows here.

    Where it is meant: `PYTHONPATH=.:tests python tests/test_mafe_runs.py` writes the file anew; say why in the commit.
    """
    wanted, found = json.loads(GOLDEN.read_text())[recipe], losses(home / f"unbroken-{recipe}")
    assert len(found) == len(wanted) == STEPS
    for step, (now, then) in enumerate(zip(found, wanted), 1):
        assert now == pytest.approx(then, rel=2e-3, abs=1e-4), step


def synth_train_here(argv: list[str], environment: dict[str, str]) -> None:
    os.setpgid(0, 0)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.exit(main(argv))


def test_killed_and_resumed_is_bit_equal(home: Path, tmp_path: Path) -> None:
    command = words(home, tmp_path / "run", "demo", "--resume")
    process = forked(synth_train_here, command, {})
    wait_for_step(tmp_path / "run", 8, process)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    finish(forked(synth_train_here, command, {}))
    assert trained_on(tmp_path / "run") == trained_on(home / "unbroken-demo")
    assert weights_sha256(tmp_path / "run") == weights_sha256(home / "unbroken-demo")


@pytest.mark.slow
def test_two_processes_equal_one(home: Path, tmp_path: Path) -> None:
    command = words(home, tmp_path / "run", "demo")
    finish(*[forked(synth_train_here, command, environment) for environment in environments_of_two()])
    for two, one in list(zip(trained_on(tmp_path / "run"), trained_on(home / "unbroken-demo")))[1:11]:
        for name in ("loss", "recon_loss", "flow_loss"):
            assert two[name] == pytest.approx(one[name], abs=1e-5), (two["step"], name)


def test_accumulation_equals_the_batch(home: Path, tmp_path: Path) -> None:
    main(words(home, tmp_path / "run", "demo", "--fit.accumulate", "2", "--fit.steps", "5"))
    for cut, whole in list(zip(trained_on(tmp_path / "run"), trained_on(home / "unbroken-demo")))[1:4]:
        assert cut["recon_loss"] == pytest.approx(whole["recon_loss"], abs=1e-6), cut["step"]


def test_what_is_exported(home: Path, tmp_path: Path) -> None:
    net = load_model(home / "unbroken-demo" / "export")
    assert isinstance(net, Mafe) and net.config.contract.size == 32
    first, last = torch.rand(2, 2, 1, 32, 32)
    time_B = torch.tensor([0.5, 1.0])
    save_model(net, tmp_path / "again", contract=net.config.contract, card={})
    again = load_model(tmp_path / "again")
    torch.testing.assert_close(net(first, last, time_B).pred, again(first, last, time_B).pred, rtol=0, atol=0)
    for path in (home / "unbroken-demo").rglob("*"):
        if path.suffix in (".json", ".jsonl", ".md"):
            assert "Doe" not in path.read_text(), path.name


def test_every_weight_that_is_trained_learns(home: Path) -> None:
    before, after = load_model(home / "encoder"), load_model(home / "unbroken-demo" / "export")
    frozen = dict(before.encoder.state_dict().items())
    assert all(torch.equal(after.frame.encoder.state_dict()[name], weight) for name, weight in frozen.items())
    torch.manual_seed(0)
    fresh = Mafe(after.config, None).state_dict()
    trained = {name for name in fresh if not name.startswith(("frame.encoder", "appearance"))}
    assert not [name for name in trained if torch.equal(fresh[name], after.state_dict()[name])]


def test_motion_table(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exact files, and what is in them."""
    out, run = tmp_path / "table", home / "unbroken-demo"
    command = [str(run), str(home / "shards"), str(out), "--modes", "2", "--pictures", "2", "--cache", str(tmp_path)]
    assert motion(command) == 0 and "13 clips" in capsys.readouterr().out
    kept = {"features.safetensors", "rows.parquet", "meta.json", "request.json", "set_aside.jsonl"}
    assert {path.name for path in out.iterdir()} == {*kept, "modes.safetensors", "motion.html"}
    table, modes = EmbeddingTable.load(out), load_modes(out)
    assert table.motion_NRCD is not None and table.motion_NRCD.shape == (13, 4, 4, 16)
    assert table.video_ND.shape == (13, 128) and table.phase is not None and len(modes) == 13
    assert modes[0].mode_K2RC.shape == (2, 2, 14, 14) and np.isfinite(modes[0].harmonic_KP).all()
    page = (out / "motion.html").read_text()
    assert "Doe_Jane" not in page and "Swaps" in page
    changed = (out / "modes.safetensors").stat().st_mtime_ns
    assert motion(command) == 0 and (out / "modes.safetensors").stat().st_mtime_ns == changed
    assert motion([*command, "--modes", "3", "--pictures", "0"]) == 0 and len(load_modes(out)[0].mode_K2RC) == 3
    with pytest.raises(EchofmError, match="echofm synth train mafe echofm"):
        motion([str(home / "unbroken-published_small"), *command[1:]])
    with pytest.raises(EchofmError, match="no modes"):
        load_modes(tmp_path)


def test_training_clips_are_shuffled_anew_each_epoch(home: Path) -> None:
    """Published: never. Every epoch shows every clip once, whatever the number of processes, and resumes anywhere."""
    shards = ShardSet.open(home / "shards")
    made = lessons.lessons_of(shards, flow="dis", per_clip=3, processes=1, show_progress=False)
    train = shards.split("train")

    def shown(batches: int, **options: int) -> list[tuple[str, int, float]]:
        settings = {"batch": 2, "rank": 0, "world": 1, "seed": 0} | options
        found = itertools.islice(lesson_batches(train, made, {}, **settings), batches)
        return [each for some in found for each in zip(some.clip_ids, some.draw_B.tolist(), some.time_B.tolist())]

    both = shown(10)
    first, second = ([clip for clip, *_ in epoch] for epoch in (both[:10], both[10:]))
    assert sorted(first) == sorted(second) == sorted(record.clip_id for record in train.records)
    assert first != second and first != [record.clip_id for record in train.records]
    assert not {draw for _, draw, _ in both[:10]} & {draw for _, draw, _ in both[10:]}
    assert len({time for _, _, time in both}) > 10, "another lesson of a clip in another epoch"
    assert shown(3, start_step=7) == both[14:]
    halves = [shown(10, rank=rank, world=2) for rank in (0, 1)]
    assert [each for pair in zip(*halves) for each in pair] == both
    assert [clip for clip, *_ in shown(5, seed=1)] != first


def test_the_overview_names_trainer_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert "usage: echofm synth train TRAINER RECIPE ..." in overview and "\ntrainers:\n" in overview
    with pytest.raises(EchofmError, match="no trainer 'maf'; did you mean 'mafe'"):
        main(["maf"])


def test_mistakes(home: Path, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="name it: --encoder"):
        main([word for word in words(home, tmp_path / "r", "demo") if word not in ("--encoder", str(home / "encoder"))])
    other = write_heart_shards(tmp_path / "large", train=4, val=1, frames=40, size=48)
    with pytest.raises(EchofmError, match="echofm shards --size 32"):
        main([*words(home, tmp_path / "r", "demo"), "--data", str(other)])
    with pytest.raises(EchofmError, match="name it by --encoder"):
        main([*words(home, tmp_path / "r", "published_small"), "--reid", str(tmp_path)])


def test_lessons_are_written_once_and_checked(home: Path) -> None:
    shards = ShardSet.open(home / "shards")
    made = lessons.lessons_of(shards, flow="dis", per_clip=3, processes=1, show_progress=False)
    part = made.folder / "part-00000.safetensors"
    content, changed = part.read_bytes(), part.stat().st_mtime_ns
    lessons.lessons_of(shards, flow="dis", per_clip=3, show_progress=False)
    assert part.stat().st_mtime_ns == changed, "nothing is written twice"
    # Killed before the manifest: what is there is kept, what lacks is made, to the same bytes.
    (made.folder / lessons.MANIFEST).unlink()
    part.unlink()
    lessons.lessons_of(shards, flow="dis", per_clip=3, processes=1, show_progress=False)
    assert part.read_bytes() == content
    part.write_bytes(content[:-1] + b"x")
    with pytest.raises(EchofmError, match="sha256 differs"):
        lessons.lessons_of(shards, flow="dis", per_clip=3, show_progress=False)
    part.write_bytes(content)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_heart_shards(base / "shards", train=10, val=3, frames=60, size=32)
        make_encoder(base / "encoder")
        torch.set_num_threads(1)
        curves = {}
        for name in ("demo", "published_small"):
            main(words(base, base / name, name))
            curves[name] = losses(base / name)
        GOLDEN.write_text(json.dumps(curves, indent=0) + "\n")
