"""Pretraining runs as a user has them: killed, resumed, ended, on one process and on two."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from heart_shards import write_heart_shards
from PIL import Image
from pretrain_process import finish, launch, launch_two, records, tiny_words, wait_for_step, weights_sha256

from echofm.contract import InputContract
from echofm.engine.monitor import Snapshot
from echofm.errors import EchofmError
from echofm.hub import load_encoder, load_model, save_model
from echofm.model.config import ObjectiveConfig
from pretrain.cli import main
from pretrain.recipes import PretrainRecipe
from pretrain.task import PretrainTask

STEPS = 30


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training hearts, 2.5 batches of 4 to the epoch, so that runs end and resume within epochs."""
    return write_heart_shards(tmp_path_factory.mktemp("Doe_Jane") / "shards", train=10, val=3, frames=48, size=40)


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that no one killed."""
    run = tmp_path_factory.mktemp("runs") / "Doe_Jane_run"
    finish(launch(words(shards, run), log=run.parent / "log"))
    return run


def words(shards: Path, run: Path, *more: str) -> list[str]:
    # Centred vectors are at first a small part of the whole, so round-off weighs ten times as much in their cosines.
    # That cutting a batch changes no more than round-off is held in float64 by tests/test_model_mae.py.
    recipe = ["demo", *tiny_words(), "--fit.steps", str(STEPS), "--network.phase-centre", "0"]
    return [*recipe, "--data", str(shards), "--out", str(run), *more]


def trained_on(run: Path) -> list[dict[str, Any]]:
    """What of the records depends on the training alone, not on the clock."""
    clock = ("clips_per_s", "data_wait_share", "eta_s")
    return [{name: value for name, value in record.items() if name not in clock} for record in records(run)]


def same_run(run: Path, unbroken: Path) -> None:
    assert [record["step"] for record in records(run)] == list(range(STEPS + 1))
    assert trained_on(run) == trained_on(unbroken)
    assert weights_sha256(run) == weights_sha256(unbroken)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_twice_and_resumed_is_bit_equal(workers: str, shards: Path, unbroken: Path, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    command = words(shards, tmp_path / "run", "--fit.workers", workers, "--resume")
    for first, last in ((1, 14), (15, 27)):
        process = launch(command)
        wait_for_step(tmp_path / "run", chance.randint(first, last), process)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish(launch(command))
    same_run(tmp_path / "run", unbroken)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_sigterm_saves_and_exits_0(workers: str, shards: Path, unbroken: Path, tmp_path: Path) -> None:
    """Sent to the whole group, loaders included, as batch systems do."""
    command = words(shards, tmp_path / "run", "--fit.workers", workers)
    process = launch(command)
    wait_for_step(tmp_path / "run", 7, process)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGTERM)
    finish(process)
    last = max(path.name for path in (tmp_path / "run" / "state").iterdir())
    step = records(tmp_path / "run")[-1]["step"]
    assert last == f"step_{step:08d}" < f"step_{STEPS:08d}"
    assert f"{step} of {STEPS}: the run was stopped" in (tmp_path / "run" / "export" / "README.md").read_text()
    finish(launch([*command, "--resume"]))
    same_run(tmp_path / "run", unbroken)


def test_two_processes_equal_one(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    """Then both are killed, and resumed they end where they did unbroken."""
    finish(*launch_two(words(shards, tmp_path / "run")))
    for two, one in list(zip(trained_on(tmp_path / "run"), trained_on(unbroken)))[1:11]:
        for name in ("loss", "recon", "triplet", "cycle", "triplet_active", "clip", "clip_found", "latent"):
            assert two[name] == pytest.approx(one[name], abs=1e-6), (two["step"], name)
        # The held-out clips are shared between the processes.
        for name in [name for name in one if name.startswith("monitor/")]:
            same = None if one[name] is None else pytest.approx(one[name], rel=1e-3, abs=1e-4)
            assert two[name] == same, (two["step"], name)
        # Added up in another order; on a processor without AVX-512 it was off by 1.02e-6 once.
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
    killed = launch_two(words(shards, tmp_path / "killed"))
    wait_for_step(tmp_path / "killed", 12, *killed)
    for process in killed:
        process.kill()
        process.join()
    finish(*launch_two(words(shards, tmp_path / "killed", "--resume")))
    same_run(tmp_path / "killed", tmp_path / "run")
    refused = launch_two(words(shards, tmp_path / "run"))
    for process in refused:
        process.join(300)
    assert [process.exitcode for process in refused] == [1, 1], "neither waits for the other for ever"


def test_accumulation_equals_the_batch(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    finish(launch(words(shards, tmp_path / "run", "--fit.accumulate", "2")))
    for cut, whole in list(zip(trained_on(tmp_path / "run"), trained_on(unbroken)))[1:11]:
        assert cut["loss"] == pytest.approx(whole["loss"], abs=1e-6), cut["step"]


def test_run_folder(unbroken: Path) -> None:
    files = {str(path.relative_to(unbroken)) for path in unbroken.rglob("*") if path.is_file()}
    boards = {name for name in files if name.startswith("tensorboard/events.out.tfevents.")}
    states = {
        f"state/step_000000{step}/{name}"
        for step in (25, 30)
        for name in (
            "model.safetensors", "ema.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json",
        )
    }  # fmt: skip
    pictures = {f"pictures/monitor_reconstruction_000000{step}.png" for step in ("00", "10", "20", "30")}
    export = {"export/config.json", "export/model.safetensors", "export/README.md"}
    assert len(boards) == 1
    assert files - boards == {"config.json", "env.json", "metrics.jsonl"} | states | pictures | export
    picture = np.asarray(Image.open(unbroken / "pictures" / "monitor_reconstruction_00000030.png"))
    assert picture.shape == (2 * 3 * 32, 4 * 32, 3) and picture.std() > 20
    first, last = records(unbroken)[0], records(unbroken)[-1]
    assert first["step"] == 0 and "monitor/prior_correlation" in first and "loss" not in first
    assert not {"data_wait_share", "clips_per_s", "eta_s"} & set(first)  # no step, no pace
    assert {"loss", "recon", "triplet", "cycle", "triplet_active", "rankme", "embedding_std", "lr", "grad_norm"} <= set(
        last
    )
    assert {"data_wait_share", "clips_per_s", "eta_s", "monitor/phase_contrast", "monitor/collapsed"} <= set(last)


def test_export_is_an_encoder_with_its_contract(unbroken: Path) -> None:
    encoder = load_encoder(unbroken / "export")
    assert encoder.contract == InputContract(size=32, frames=8, channels=1, frame_rate_hz=25.0)
    assert encoder.encode(torch.rand(2, 1, 8, 32, 32)).phase_BTD.shape == (2, 4, 32)
    card = (unbroken / "export" / "README.md").read_text()
    assert "10 training clips of 10 patients" in card and "monitor/prior_correlation" in card


def test_run_folder_names_no_patient(unbroken: Path) -> None:
    """Row names, the folders of the shards and of the run hold the name; nothing within the run and no log does."""
    log = unbroken.parent / "log"
    assert "the result is in export/" in log.read_text()
    # Eight letters: three would turn up in random weights.
    found = subprocess.run(["grep", "-rahiE", "doe.jane", str(unbroken), str(log)], capture_output=True)
    assert found.returncode == 1 and found.stdout == b""
    assert subprocess.run(["grep", "-raq", "demo", str(unbroken)]).returncode == 0


def test_dry_run_writes_nothing(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--data", str(shards), *tiny_words(), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for part in ("10 training clips", "2 steps an epoch", "parameters", "GiB", "s a step"):
        assert part in printed
    assert not list(tmp_path.iterdir())


def count_frames(snapshot: Snapshot) -> dict[str, float]:
    """A measurement brought from outside; it draws random numbers and changes the mode, which must not matter."""
    assert snapshot.model is not None and not torch.is_grad_enabled()
    torch.rand(3)
    return {"frames": snapshot.contract.frames, "step": snapshot.step, "clips": len(snapshot.shards)}


def test_monitor_from_outside(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    hook = "test_pretrain_runs:count_frames"
    finish(launch(words(shards, tmp_path / "run", "--monitor", hook)))
    measured = [record for record in records(tmp_path / "run") if f"monitor/{hook}/frames" in record]
    assert [record[f"monitor/{hook}/step"] for record in measured] == [0, 10, 20, 30]
    assert measured[0][f"monitor/{hook}/clips"] == 13
    assert weights_sha256(tmp_path / "run") == weights_sha256(unbroken)


def test_mistakes(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    with pytest.raises(EchofmError, match="--resume"):
        main(words(shards, unbroken))
    with pytest.raises(EchofmError, match=r"masking\.ratio = 0\.75, asked for is 0\.5"):
        main(words(shards, unbroken, "--resume", "--masking.ratio", "0.5"))
    with pytest.raises(EchofmError, match="no such monitor"):
        main(words(shards, tmp_path / "a", "--monitor", "nothing"))
    with pytest.raises(EchofmError, match="module:function"):
        main(words(shards, tmp_path / "b", "--monitor", "json:nothing"))
    with pytest.raises(EchofmError, match="10 clips, fewer than one global batch of 16"):
        main(words(shards, tmp_path / "c", "--fit.batch", "16"))
    with pytest.raises(EchofmError, match=r"others: give --fit\.batch 2"):
        main(words(shards, tmp_path / "d", "--fit.batch", "1"))
    assert not (tmp_path / "d").exists()


def test_a_run_begins_from_the_weights_of_another(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    more = ["--init", str(unbroken / "export"), "--fit.steps", "2", "--objective.prior.context", "2"]
    command = [*words(shards, tmp_path / "on"), *more]
    main(command)
    recipe = PretrainRecipe.from_json(tmp_path / "on" / "config.json")
    begun = PretrainTask(recipe, init=str(unbroken / "export")).net.state_dict()
    assert all(
        torch.equal(begun[name], tensor) for name, tensor in load_model(unbroken / "export").state_dict().items()
    )
    # The head of the contrast is for training alone: a run may begin from weights that have one, or have none.
    without = recipe.model_copy(update={"objective": ObjectiveConfig()})
    plain = PretrainTask(without, init=str(unbroken / "export")).net
    assert not any(name.startswith("clip_head") for name in plain.state_dict())
    save_model(plain, tmp_path / "plain", contract=recipe.contract, card={})
    again = PretrainTask(recipe, init=str(tmp_path / "plain")).net.state_dict()
    assert all(torch.equal(again[name], begun[name]) for name in plain.state_dict())
    # Trained, so step 0 already reconstructs better than an untrained network.
    assert records(tmp_path / "on")[0]["monitor/psnr_db"] > records(unbroken)[0]["monitor/psnr_db"] + 0.2
    digest = load_encoder(unbroken / "export").digest
    assert json.loads((tmp_path / "on" / "env.json").read_text())[0]["data"]["initial weights"] == digest
    assert digest in (tmp_path / "on" / "export" / "README.md").read_text()
    with pytest.raises(EchofmError, match="networks given are not those that this run began with"):
        main([*words(shards, tmp_path / "on"), *more[2:], "--resume"])
    with pytest.raises(EchofmError, match=r"has depth 1, the recipe 2; add --network\.depth 1"):
        main([*words(shards, tmp_path / "x"), *more, "--network.depth", "2"])
    alone = load_encoder(unbroken / "export").save_pretrained(tmp_path / "alone")
    with pytest.raises(EchofmError, match="has no decoder"):
        main([*words(shards, tmp_path / "x"), "--init", str(alone)])
    licence = ["--licence", "CC BY 4.0", "--authors", "the lab"]
    main([*words(shards, tmp_path / "rights"), "--fit.steps", "1", "--monitor.every", "0", *licence])
    card = (tmp_path / "rights" / "export" / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "Authors: the lab." in card
    assert "Licence: not stated" in (unbroken / "export" / "README.md").read_text()
    assert not (tmp_path / "x").exists()


def limit_files(snapshot: Snapshot) -> dict[str, float]:
    """From step 10 on no file may grow past 20 kB: neither a state nor TensorBoard's file fits."""
    if snapshot.step == 10:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    return {}


def test_disk_that_refuses(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    """A limit on file size stands for a full disk: the last state stays whole and the run can go on."""
    command = words(shards, tmp_path / "run", "--monitor", "test_pretrain_runs:limit_files")
    process = launch(command, log=tmp_path / "log")
    process.join(300)
    assert process.exitcode == 1
    assert "EchofmError: the figures could not be written (File too large)" in (tmp_path / "log").read_text()
    assert [path.name for path in (tmp_path / "run" / "state").iterdir()] == ["step_00000005"]
    finish(launch([*words(shards, tmp_path / "run"), "--resume"]))
    same_run(tmp_path / "run", unbroken)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_torchrun_of_two_killed_twice_is_bit_equal(workers: str, shards: Path, tmp_path: Path) -> None:
    # Modules of the user's own, where the command is started, are not taken for ours.
    hijacking = tmp_path / "own"
    (hijacking / "probe").mkdir(parents=True)
    (hijacking / "pretrain.py").write_text("raise SystemExit('not this one')")

    def torchrun(run: Path) -> subprocess.Popen[bytes]:
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "--no-python",
            str(Path(sys.executable).with_name("echofm")),
            "pretrain",
        ]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [*start, *words(shards, run, "--fit.workers", workers, "--resume")]
        return subprocess.Popen(command, env=environment | {"OMP_NUM_THREADS": "1"}, cwd=hijacking)

    assert torchrun(tmp_path / "whole").wait(300) == 0
    chance = random.Random(int(workers))
    for first, last in ((1, 14), (15, 25)):
        launched = torchrun(tmp_path / "run")
        step = chance.randint(first, last)
        while not any(record["step"] >= step for record in records(tmp_path / "run", whole=False)):
            assert launched.poll() is None
            time.sleep(0.002)
        launcher = psutil.Process(launched.pid)
        family = [*launcher.children(recursive=True), launcher]
        for process in family:
            process.kill()
        assert launched.wait() == -signal.SIGKILL
        psutil.wait_procs(family, timeout=60)
    assert torchrun(tmp_path / "run").wait(300) == 0
    same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_recipe_learns_the_cycle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe `demo` on hearts with known phase; measured on hearts that it never saw."""
    shards = write_heart_shards(tmp_path / "shards", train=64, val=16)
    begun_s = time.process_time()
    assert main(["demo", "--data", str(shards), "--out", str(tmp_path / "run"), "--monitor.clips", "16"]) == 0
    spent_s = time.process_time() - begun_s
    untrained, trained = records(tmp_path / "run")[0], records(tmp_path / "run")[-1]
    with capsys.disabled():
        print(f"\n{spent_s:.0f} CPU seconds; 16 held-out hearts" + " " * 12 + "untrained   trained")
        for name in ("prior_correlation", "phase_contrast", "phase_contrast_min", "phase_contrast_positive", "psnr_db"):
            print(f"  {name:<40} {untrained[f'monitor/{name}']:10.3f} {trained[f'monitor/{name}']:10.3f}")
    assert trained["monitor/prior_correlation"] >= 0.9 > 0.3 > untrained["monitor/prior_correlation"]
    assert trained["monitor/phase_contrast_min"] > 0 and trained["monitor/phase_contrast_positive"] == 1
