"""AdamW with the decay of masked autoencoders, and a running mean of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from echofm.engine.config import OptimConfig


def make_optimizer(net: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Fused AdamW; decay on parameters with more than one axis not named `*.bias`, tokens and positions included."""
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if p.ndim > 1 and not name.endswith(".bias")]
    plain = [p for name, p in trained if p.ndim <= 1 or name.endswith(".bias")]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # The learning rate is set before every update (schedule.lr_at); the one given here is never used.
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=0.0, betas=(config.beta1, config.beta2), fused=True
    )


class Ema:
    """Running mean of a network's weights: mean = decay * mean + (1 - decay) * weight; buffers are copied."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.mean = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the mean towards the network's present weights."""
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                self.mean[name].lerp_(tensor, 1 - self.decay)
            else:
                self.mean[name].copy_(tensor)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Within the block the network holds the mean; its own weights come back after it."""
        own = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        net.load_state_dict(self.mean)
        try:
            yield
        finally:
            net.load_state_dict(own)
