"""A toy adversarial autoencoder: two players, the adaptive weight of VQGAN, a discriminator that starts late."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from echofm.clip import ClipBatch
from echofm.engine.config import FitConfig, OptimConfig
from echofm.engine.player import Player
from echofm.engine.task import Loss, StepOutput, Sum, Task, Turn

START, LARGEST_WEIGHT, EPS = 5, 1e4, 1e-4


class ToyGan(Task):
    def __init__(self, config: FitConfig) -> None:
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(32, 8), nn.SiLU(), nn.Linear(8, 32))
        self.discriminator = nn.Sequential(nn.Linear(32, 8), nn.SiLU(), nn.Linear(8, 1))
        self._config = config

    def players(self) -> list[Player]:
        slow = OptimConfig(base_lr=0.1, beta1=0.5, beta2=0.9, weight_decay=0.0, max_grad_norm=None)
        return [
            Player(name="generator", net=self.generator, optim=self._config.optim, ema_decay=self._config.ema_decay),
            Player(name="discriminator", net=self.discriminator, optim=slow, start_step=START),
        ]

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        scored = yield Sum(batch.valid_BT.sum())
        real_NV = batch.video_BCTHW[:, 0].flatten(2)[batch.valid_BT]
        if turn.player == "discriminator":
            fake_NV = turn.nets["generator"](real_NV)
            score_2N = turn.net(torch.cat([real_NV, fake_NV])).unflatten(0, (2, -1))[..., 0]
            loss = (F.softplus(-score_2N[0]) + F.softplus(score_2N[1])).sum() / scored
            return StepOutput(loss=loss)
        fake_NV = turn.net(real_NV)
        pixels = (fake_NV - real_NV).abs().mean(1).sum() / scored
        if turn.step < START:
            return StepOutput(loss=pixels, logs={"pixels": pixels})
        adversarial = -turn.nets["discriminator"](fake_NV).sum() / scored
        last = self.generator[-1].weight
        slopes = [torch.autograd.grad(each, last, retain_graph=True)[0] for each in (pixels, adversarial)]
        of_pixels, of_adversarial = yield Sum(torch.stack(slopes), rerun=True)
        weight = (of_pixels.norm() / (of_adversarial.norm() + EPS)).clamp(max=LARGEST_WEIGHT)
        logs = {"pixels": pixels, "adversarial": adversarial}
        return StepOutput(loss=pixels + weight * adversarial, logs=logs, on_log=lambda: {"weight": weight.item()})
