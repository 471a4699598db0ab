"""Runs of a training task, whole or killed and resumed; what they logged; an encoder for perceptual losses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_process import environments_of_two, finish, forked
from safetensors.torch import load_file

from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.fit import fit
from echofm.engine.run import Run
from echofm.hub import save_model
from echofm.model.config import EncoderConfig
from echofm.model.vit import VideoEncoder
from echofm.shards.read import ShardSet

CLOCK = {"clips_per_s", "data_wait_share", "eta_s"}


def run_task(
    folder: Path, task: Any, recipe: Any, shards: ShardSet, *, killed_at: int | None = None, resume: bool = False
) -> None:
    """Fit in a folder, from the start or its last state, until `killed_at`."""
    run = Run.open(folder, recipe, env={"data": {}}, resume=resume)

    def batches() -> Iterator[ClipBatch]:
        dealt = task.batches(shards, recipe.fit, start_step=run.start_step)
        for step, batch in enumerate(dealt, run.start_step + 1):
            if step == killed_at:
                raise KeyboardInterrupt
            yield batch

    fit(task, batches(), recipe.fit, run)


def metrics(folder: Path) -> list[dict[str, float]]:
    """What a run logged, but for its speed."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in CLOCK} for line in lines]


def golden(path: Path, found: list[dict[str, float]]) -> list[dict[str, float]]:
    """The curve kept in a file. Any change of network, loss, draw, order or optimizer shows beside it.

    Where it is meant: delete the file, run the test, and say why in the commit.
    """
    if not path.exists():
        path.write_text(json.dumps(found, indent=1) + "\n")
    wanted = json.loads(path.read_text())
    assert len(found) == len(wanted) == 20
    return wanted


def require_resumed(run: Callable[..., None], cut: Path, whole: Path) -> None:
    """Run in `cut`, killed twice and resumed: the very weights of a run that no one killed."""
    for resume, killed_at in ((False, 8), (True, 14)):
        with pytest.raises(KeyboardInterrupt):
            run(cut, killed_at=killed_at, resume=resume)
    run(cut, resume=True)
    for file in ("export/model", *(f"state/step_00000020/{name}" for name in ("model", "ema", "optimizer"))):
        found, wanted = (load_file((each / file).with_suffix(".safetensors")) for each in (cut, whole))
        assert set(found) == set(wanted) and all(torch.equal(found[name], wanted[name]) for name in found), file


def run_as_two(run: Callable[[Path, Path], None], out: Path, shards: Path) -> None:
    """A run of two processes. run: a function of a test module, of the run's folder and that of the shards."""
    finish(*[forked(_one_of_two, environment, run, out, shards) for environment in environments_of_two()])


def _one_of_two(environment: dict[str, str], run: Callable[[Path, Path], None], out: Path, shards: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    run(out, shards)


def write_encoder(folder: Path, *, size: int) -> str:
    """A tiny encoder's export, at random."""
    torch.manual_seed(0)
    net = VideoEncoder(EncoderConfig(size=size, frames=8, channels=1, patch=8, tubelet=2, width=16, depth=3, heads=2))
    save_model(net, folder, contract=InputContract(size=size, frames=8, frame_rate_hz=25), card={})
    return str(folder)
