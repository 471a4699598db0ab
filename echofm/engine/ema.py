"""Ema: a running mean of a network's weights, itself a network."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """mean = d * mean + (1 - d) * weight after every update t = 1, 2, ..., with d = min(decay, (1 + t) / (10 + t)).

    The warm-up of d keeps the random first weights from lasting. Trainable weights are averaged, buffers copied, frozen
    weights shared with the network.

    net: the mean as a network, in evaluation mode and without gradient: what is validated and exported, and what a
        loss may take as its teacher.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        frozen = {id(weight): weight for weight in net.parameters() if not weight.requires_grad}
        self.net = copy.deepcopy(net, dict(frozen)).eval().requires_grad_(False)
        self._shared = {name for name, weight in self.net.named_parameters() if id(weight) in frozen}
        pairs = zip(self.net.parameters(), net.parameters())
        self._weights = [(mean.data, own.data) for mean, own in pairs if id(own) not in frozen]
        self._source = net

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Move the mean towards the network's present weights, those after its update `t`."""
        decay = min(self.decay, (1 + t) / (10 + t))
        for mean, own in self._weights:
            mean.lerp_(own, 1 - decay)
        for mean, own in zip(self.net.buffers(), self._source.buffers()):
            mean.copy_(own)

    def state(self) -> dict[str, torch.Tensor]:
        """What of the mean is not the network's own, by name."""
        return {name: tensor for name, tensor in self.net.state_dict().items() if name not in self._shared}

    @torch.no_grad()
    def load(self, saved: dict[str, torch.Tensor]) -> None:
        """Take up a saved `state()`. Raises KeyError or RuntimeError where it is another network's."""
        for name, tensor in self.state().items():
            tensor.copy_(saved[name])
