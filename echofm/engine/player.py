"""Player: a network that learns, how, and the running mean of its weights. Most tasks have one, a GAN two."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from echofm.engine.config import FitConfig, OptimConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Player:
    """A network, its AdamW, and when it learns.

    net: the bare network; its weights that require a gradient are trained, all are saved.
    ema_decay: of a running mean of the weights, which is then what is validated and exported; None: no mean.
    start_step: the first step that updates it; its schedule counts from there.
    lr_scale: factor of the learning rate by the weight's name, as layer-wise decay wants; None: 1 for all.
    """

    name: str
    net: nn.Module
    optim: OptimConfig
    ema_decay: float | None = None
    start_step: int = 1
    lr_scale: Callable[[str], float] | None = None


class Trained:
    """A player in training: the network as it must be called (`wrapped`), its optimizer, its running mean.

    ddp: the network with its exchange of gradients, where there are several processes.
    """

    def __init__(self, player: Player, accelerator: Accelerator, config: FitConfig) -> None:
        self.player, self._config = player, config
        player.net.train()
        self.weights = [weight for weight in player.net.parameters() if weight.requires_grad]
        self.ddp: nn.Module = accelerator.prepare(player.net)
        self.wrapped: nn.Module = torch.compile(self.ddp) if config.compile else self.ddp  # type: ignore[assignment]
        self.optimizer = make_optimizer(player.net, player.optim, lr_scale=player.lr_scale)
        self.ema = Ema(player.net, player.ema_decay) if player.ema_decay else None

    @property
    def measured(self) -> nn.Module:
        """The network that is validated and exported: the running mean where there is one."""
        return self.ema.net if self.ema else self.player.net

    def step(self, step: int) -> float:
        """Change the weights by their gradients at global step `step`; the learning rate it had."""
        own, steps = step - self.player.start_step + 1, self._config.steps - self.player.start_step + 1
        lr = self.player.optim.lr_at(own, steps=steps, batch=self._config.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.optimizer.step()
        if self.ema:
            self.ema.update(own)
        return lr

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """The optimizer's tensors, each as "<weight>/<tensor>"."""
        names: dict[torch.Tensor, str] = {weight: name for name, weight in self.player.net.named_parameters()}
        return {
            f"{names[weight]}/{key}": tensor
            for weight, tensors in self.optimizer.state.items()
            for key, tensor in tensors.items()
        }

    def load_optimizer_state(self, saved: dict[str, torch.Tensor]) -> None:
        """Put the optimizer's tensors back, each beside its weight."""
        weights = dict(self.player.net.named_parameters())
        for name, tensor in saved.items():
            owner, _, key = name.rpartition("/")
            # A fused AdamW wants its step counter where the weight is.
            self.optimizer.state[weights[owner]][key] = tensor.to(weights[owner].device)


def make_optimizer(
    net: nn.Module, config: OptimConfig, *, lr_scale: Callable[[str], float] | None = None
) -> torch.optim.AdamW:
    """Fused AdamW; decay on weights with more than one axis not named `*.bias`, tokens and positions included."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, weight in net.named_parameters():
        if weight.requires_grad:
            decayed = weight.ndim > 1 and not name.endswith(".bias")
            groups[decayed, lr_scale(name) if lr_scale else 1.0].append(weight)
    # Decayed ones first: the order in which a fused update takes them is part of a run's bits.
    ordered = sorted(groups.items(), key=lambda group: (not group[0][0], -group[0][1]))
    # The learning rate is set before every update; the one given here is never used.
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": config.weight_decay if decayed else 0.0, "lr_scale": scale}
            for (decayed, scale), weights in ordered
        ],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


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
