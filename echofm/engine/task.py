"""What the engine asks of a task, and what a step gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from echofm.clip import ClipBatch

Figure = float | npt.NDArray[np.uint8]
Rows = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """One micro-batch's share of the update.

    loss: scalar with graph, the micro-batch's sum over the *global* totals, so that adding up micro-batches and
        processes gives the loss of the global batch.
    logs: scalars that add up in the same way.
    embedding_ND: rows whose rank and spread are logged; None: neither is.
    """

    loss: torch.Tensor
    logs: Mapping[str, torch.Tensor]
    embedding_ND: torch.Tensor | None = None


class Task(Protocol):
    """A network and what one update of it means. Everything trainable runs inside `net.forward`."""

    @property
    def net(self) -> nn.Module:
        """The bare network, whose weights are trained, saved and exported."""
        ...

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Augment and resize on the device; every draw comes from `draw_B`."""
        ...

    def counts(self, batch: ClipBatch) -> torch.Tensor:
        """Float64 (K,): the numbers of values over which the loss parts are means. Added up over the global batch."""
        ...

    def shared(self, batch: ClipBatch) -> Rows | None:
        """What all micro-batches of the global batch must see of this one, without gradient; None: nothing.

        Tensors of as many rows, by name, to be joined over micro-batches and processes. Asked where there are several.
        """
        ...

    def step(self, net: nn.Module, batch: ClipBatch, totals: torch.Tensor, shared: Rows | None = None) -> StepOutput:
        """Run `net` (this task's own, perhaps wrapped) on a micro-batch.

        totals: (K,) the global counts. shared: the global batch's rows; None: this micro-batch is the whole of it.
        """
        ...

    def after_update(self, step: int) -> Mapping[str, Figure]:
        """Called on every process after update `step`, and with 0 before the first one.

        The figures that the main process returns are logged; a uint8 array (H, W, 3) among them is a picture.
        """
        ...

    def export(self, folder: Path, *, step: int) -> None:
        """Write what is worth keeping after `step` updates into an empty folder, on the main process."""
        ...

    def advice(self) -> str:
        """What to change in this task when memory runs out, e.g. `--grad-checkpointing`; may be empty."""
        ...
