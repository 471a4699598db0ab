"""Runs of a training task, whole or killed and resumed; what they logged; an encoder for perceptual losses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

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


def write_encoder(folder: Path, *, size: int) -> str:
    """A tiny encoder's export, at random."""
    torch.manual_seed(0)
    net = VideoEncoder(EncoderConfig(size=size, frames=8, channels=1, patch=8, tubelet=2, width=16, depth=3, heads=2))
    save_model(net, folder, contract=InputContract(size=size, frames=8, frame_rate_hz=25), card={})
    return str(folder)
