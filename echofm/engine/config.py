"""FitConfig: everything about a training run that is not the task's own. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

import pydantic

from echofm.engine.schedule import lr_at
from echofm.errors import EchofmError
from echofm.schema import FrozenModel


class OptimConfig(FrozenModel):
    """AdamW and its schedule."""

    lr_per_256: float = pydantic.Field(default=1e-3, gt=0)
    """Peak learning rate at a global batch of 256 clips; scaled linearly with the batch."""
    final_lr_share: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Learning rate after the last step, as a share of the peak."""
    warmup_steps: int = pydantic.Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    beta1: float = pydantic.Field(default=0.9, ge=0, lt=1)
    """Decay of the gradient's running mean."""
    beta2: float = pydantic.Field(default=0.95, ge=0, lt=1)
    """Decay of the squared gradient's running mean."""
    weight_decay: float = pydantic.Field(default=0.05, ge=0)
    """Decoupled weight decay, on tensors of more than one axis that are no bias."""
    clip_norm: float | None = pydantic.Field(default=0.02, gt=0)
    """Largest global gradient norm; None: never clipped."""


class FitConfig(FrozenModel):
    """The one training loop."""

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
    """Number format of the products; weights, losses and moments stay fp32."""
    optim: OptimConfig = OptimConfig()
    """AdamW and its schedule."""
    ema_decay: float | None = pydantic.Field(default=None, gt=0, lt=1)
    """Decay of a running mean of the weights, which is then what is exported; None: no mean."""
    seed: int = pydantic.Field(default=0, ge=0)
    """Seed of the initial weights, the order of the clips and every draw about them."""
    workers: int = pydantic.Field(default=2, ge=0)
    """Loader processes per training process; 0 loads in the training process."""
    save_every: int = pydantic.Field(default=1000, ge=1)
    """Steps between two saved states."""
    keep_states: int = pydantic.Field(default=2, ge=1)
    """Saved states kept."""
    log_every: int = pydantic.Field(default=10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a loss or gradient that is no number does: end the run, or leave the weights as they are for that step."""
    deterministic: bool = True
    """Deterministic kernels, without which a resumed run on a GPU is not bit-equal; False is somewhat faster."""
    compile: bool = False
    """torch.compile the network."""
    wandb: str | None = None
    """Weights & Biases project that gets the figures too; needs `pip install wandb`."""

    def peak_lr(self) -> float:
        """Peak learning rate of this batch: lr = lr_per_256 * batch / 256."""
        return self.optim.lr_per_256 * self.batch / 256

    def lr_at(self, step: int) -> float:
        """Learning rate of update `step`, 1 to `steps`."""
        return lr_at(
            step,
            steps=self.steps,
            peak=self.peak_lr(),
            warmup_steps=self.optim.warmup_steps,
            final_share=self.optim.final_lr_share,
        )

    def micro_batch(self, world: int) -> int:
        """Clips that one process holds at a time. Raises EchofmError where the batch does not divide."""
        if self.batch % (world * self.accumulate):
            raise EchofmError(
                f"--fit.batch {self.batch} does not divide into {world} process(es) x --fit.accumulate "
                f"{self.accumulate}; take a multiple of {world * self.accumulate}"
            )
        return self.batch // (world * self.accumulate)
