"""The smallest task that the engine takes, for its tests: a linear autoencoder of clips, means over global counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from echofm.clip import ClipBatch
from echofm.engine.task import Rows, StepOutput


class ToyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Linear(32, 8)
        self.drop = nn.Dropout(0.1)
        self.decode = nn.Linear(8, 32)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x_BTV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.encode(x_BTV) + self.token
        return self.decode(self.drop(code)), code


class ToyTask:
    """`valid_BT` chooses what is scored, so that micro-batches have unequal counts."""

    def __init__(self) -> None:
        self.net = ToyNet()
        self.updates: list[int] = []

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        return batch

    def counts(self, batch: ClipBatch) -> torch.Tensor:
        return batch.valid_BT.sum().double()[None]

    def shared(self, batch: ClipBatch) -> None:
        return None

    def step(self, net: nn.Module, batch: ClipBatch, totals: torch.Tensor, shared: Rows | None = None) -> StepOutput:
        x_BTV = batch.video_BCTHW[:, 0].flatten(2)
        pred, code = net(x_BTV)
        loss = ((pred - x_BTV).square().mean(-1) * batch.valid_BT).sum() / totals[0].float()
        return StepOutput(loss=loss, logs={"recon": loss}, embedding_ND=code.flatten(0, 1))

    def after_update(self, step: int) -> Mapping[str, float]:
        self.updates.append(step)
        return {}

    def export(self, folder: Path, *, step: int) -> None:
        save_file(self.net.state_dict(), folder / "model.safetensors")

    def advice(self) -> str:
        return "--toy.smaller"


def toy_batches(batch: int, *, start_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[ClipBatch]:
    """Clips that are a function of the step alone; this rank's slice of each global batch."""
    step = start_step
    while True:
        rng = np.random.default_rng(step)
        video = torch.from_numpy(rng.integers(0, 256, (batch, 1, 4, 4, 8), dtype=np.uint8))
        valid = torch.from_numpy(rng.random((batch, 4)) < 0.7)
        valid[:, 0] = True
        whole = ClipBatch(
            video_BCTHW=video,
            sector_BHW=torch.ones(batch, 4, 8, dtype=torch.bool),
            valid_BT=valid,
            frame_time_s_BT=torch.arange(4.0).expand(batch, 4),
            draw_B=torch.arange(batch),
            clip_ids=[f"clip-{step}-{index}" for index in range(batch)],
            patient_ids=[f"patient-{index}" for index in range(batch)],
        )
        own = batch // world
        yield whole[rank * own : (rank + 1) * own]
        step += 1
