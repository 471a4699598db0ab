"""FitConfig, OptimConfig, MonitorConfig: what of a training run is not the task's own. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import pydantic
import tyro

from echofm.errors import EchofmError
from echofm.schema import FrozenModel


def half_cosine(progress: float) -> float:
    """(1 + cos(pi x)) / 2: 1 where `progress` x is 0, 0 where it is 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


class OptimConfig(FrozenModel):
    """AdamW and its schedule."""

    base_lr: float = pydantic.Field(default=1e-3, gt=0)
    """Peak learning rate at a global batch of 256 clips; scaled linearly with the batch."""
    min_lr_ratio: tyro.conf.Suppress[float] = pydantic.Field(default=0.0, ge=0, le=1)
    """Learning rate after the last step over the peak."""
    warmup_steps: int = pydantic.Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    beta1: tyro.conf.Suppress[float] = pydantic.Field(default=0.9, ge=0, lt=1)
    """Decay of the gradient's running mean."""
    beta2: tyro.conf.Suppress[float] = pydantic.Field(default=0.95, ge=0, lt=1)
    """Decay of the squared gradient's running mean."""
    weight_decay: float = pydantic.Field(default=0.05, ge=0)
    """Decoupled weight decay, on tensors of more than one axis that are no bias."""
    max_grad_norm: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=0.02, gt=0)
    """Largest norm of the gradient, which is scaled down to it; None: never."""

    def peak_lr(self, batch: int) -> float:
        """Peak learning rate at a global batch of so many clips: lr = base_lr * batch / 256."""
        return self.base_lr * batch / 256

    def lr_at(self, step: int, *, steps: int, batch: int) -> float:
        """Learning rate of update `step`, 1 to `steps`: linear warm-up, then half a cosine (SGDR, arXiv 1608.03983).

        A pure function of the step, so that nothing about it needs saving: peak * step / warmup_steps while step <=
        warmup_steps, afterwards peak * (f + (1 - f) * (1 + cos(pi * x)) / 2), where x runs from 0 at the end of the
        warm-up to 1 one step after `steps` (so that the last step still learns) and f is `min_lr_ratio`.
        """
        peak, warmup, low = self.peak_lr(batch), self.warmup_steps, self.min_lr_ratio
        if step <= warmup:
            return peak * step / warmup
        return peak * (low + (1 - low) * half_cosine((step - warmup) / (steps - warmup + 1)))


class FitConfig(FrozenModel):
    """The training loop."""

    # What may differ when a run is resumed: none of these changes the weights that come out...
    free_on_resume: ClassVar[frozenset[str]] = frozenset(
        ["save_every", "keep_states", "log_every", "on_nonfinite", "workers", "wandb"]
    )
    # ... and these change them by round-off alone. They are what helps where memory ran out.
    rounding_on_resume: ClassVar[frozenset[str]] = frozenset(["accumulate"])

    steps: int = pydantic.Field(default=1000, ge=1)
    """Updates of the weights."""
    batch: int = pydantic.Field(default=8, ge=1)
    """Clips per update, over all processes together."""
    accumulate: int = pydantic.Field(default=1, ge=1)
    """Parts into which each process cuts its clips of a batch; the result is that of the whole batch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the products; weights, losses and optimizer states stay fp32."""
    optim: OptimConfig = OptimConfig()
    """AdamW and its schedule."""
    ema_decay: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = pydantic.Field(default=None, gt=0, lt=1)
    """Decay of a running mean of the weights, which is then what is measured and exported; None: no mean."""
    seed: int = pydantic.Field(default=0, ge=0)
    """Seed of the initial weights, the order of the clips and every draw about them."""
    workers: int = pydantic.Field(default=2, ge=0)
    """Loader processes per training process; 0 loads in the training process."""
    save_every: int = pydantic.Field(default=1000, ge=1)
    """Steps between two saved states."""
    keep_states: tyro.conf.Suppress[int] = pydantic.Field(default=2, ge=1)
    """Saved states kept."""
    log_every: int = pydantic.Field(default=10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a loss or gradient that is no number does: end the run, or leave the weights as they are for that step."""
    deterministic: bool = True
    """Deterministic kernels, without which a resumed run on a GPU is not bit-equal; False is somewhat faster."""
    compile: bool = False
    """torch.compile the network."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Weights & Biases project that gets the figures too; needs `pip install wandb`."""

    def micro_batch(self, world: int) -> int:
        """Clips that one process holds at a time. Raises EchofmError where the batch does not divide."""
        if self.batch % (world * self.accumulate):
            raise EchofmError(
                f"--fit.batch {self.batch} does not divide into {world} process(es) x --fit.accumulate "
                f"{self.accumulate}; take a multiple of {world * self.accumulate}"
            )
        return self.batch // (world * self.accumulate)


class MonitorConfig(FrozenModel):
    """What is measured on held-out clips while training."""

    free_on_resume: ClassVar[frozenset[str]] = frozenset(["every", "clips", "hooks"])

    every: int = pydantic.Field(default=1000, ge=0)
    """Steps between two measurements; 0: never."""
    clips: int = pydantic.Field(default=16, ge=1)
    """Held-out clips measured."""
    hooks: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--monitor"], metavar="[NAME ...]")] = ()
    """Further measurements, each `module:function` or `name:argument` of an installed monitor (`probe:ef_percent`)."""
