"""A toy flow model in latents (B, 8, 1, 1, 1): frozen codec, running mean as teacher, conditions dropped per sample."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.draws import Stream, bernoulli, normal, uniform
from echofm.engine.config import FitConfig
from echofm.engine.player import Player
from echofm.engine.task import Loss, StepOutput, Sum, Task, Turn


class ToyVelocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8 + 2, 16), nn.SiLU(), nn.Linear(16, 8))
        self.null = nn.Parameter(torch.zeros(1))

    def forward(self, x_BD: torch.Tensor, time_B1: torch.Tensor, condition_B1: torch.Tensor) -> torch.Tensor:
        condition_B1 = torch.where(condition_B1.isnan(), self.null, condition_B1)
        return self.layers(torch.cat([x_BD, time_B1, condition_B1], 1))


class ToyFlow(Task):
    def __init__(self, config: FitConfig) -> None:
        torch.manual_seed(0)
        self.net, self.codec, self._config = ToyVelocity(), nn.Linear(128, 8), config

    def players(self) -> list[Player]:
        return [Player(name="generator", net=self.net, optim=self._config.optim, ema_decay=0.9)]

    def frozen(self) -> dict[str, nn.Module]:
        return {"codec": self.codec}

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        return replace(batch, video_BCTHW=self.codec(batch.video_BCTHW.flatten(1))[:, :, None, None, None])

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        clips = yield Sum(torch.tensor(len(batch), device=batch.draw_B.device))
        data_BD = batch.video_BCTHW.flatten(1)
        condition_B1 = batch.valid_BT.float().mean(1, keepdim=True)
        dropped_B1 = bernoulli(batch.draw_B, 1, probability=0.2, stream=Stream.CONDITION)
        condition_B1 = condition_B1.masked_fill(dropped_B1, torch.nan)
        noise_BD = normal(batch.draw_B, 8, stream=Stream.NOISE)
        time_B1 = uniform(batch.draw_B, 1, stream=Stream.NOISE_LEVEL).float()
        x_BD = noise_BD.lerp(data_BD, time_B1)
        target_BD = 0.8 * (data_BD - noise_BD) + 0.2 * turn.ema["generator"](x_BD, time_B1, condition_B1)
        found_BD = turn.net(x_BD, time_B1, condition_B1)
        return StepOutput(loss=(found_BD - target_BD).square().mean(1).sum() / clips)
