"""The smallest task that the engine takes, for its tests: a linear autoencoder, its means over the global batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig
from echofm.engine.player import Player
from echofm.engine.task import Loss, StepOutput, Sum, Task, Turn


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


class ToyTask(Task):
    """`valid_BT` chooses what is scored, so that micro-batches have unequal denominators."""

    def __init__(self, config: FitConfig) -> None:
        self.net, self._config = ToyNet(), config

    def players(self) -> list[Player]:
        return [Player(name="model", net=self.net, optim=self._config.optim, ema_decay=self._config.ema_decay)]

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        scored = yield Sum(batch.valid_BT.sum())
        x_BTV = batch.video_BCTHW[:, 0].flatten(2)
        pred, code = turn.net(x_BTV)
        loss = ((pred - x_BTV).square().mean(-1) * batch.valid_BT).sum() / scored
        return StepOutput(loss=loss, logs={"recon": loss}, on_log=lambda: {"code_std": code.std().item()})

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
            draw_B=torch.arange(batch) + step * batch,
            clip_ids=[f"clip-{step}-{index}" for index in range(batch)],
            patient_ids=[f"patient-{index}" for index in range(batch)],
        )
        own = batch // world
        yield whole[rank * own : (rank + 1) * own]
        step += 1
