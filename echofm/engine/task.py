"""Task: what the engine asks of a training, with defaults for all but its networks and its loss.

A loss sees one micro-batch, but must not depend on how the global batch was cut into micro-batches and processes. Where
it needs something of the whole batch, it asks: `scored = yield Sum(mask_BT.sum())` gives the sum over the global batch,
`rows = yield Join({"vector_RD": vector_RD})` the rows of all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.config import FitConfig
from echofm.engine.parallel import processes
from echofm.engine.player import Player
from echofm.saved import apart
from echofm.shards.loader import train_batches

if TYPE_CHECKING:
    from echofm.shards.carry import Carry
    from echofm.shards.read import ShardSet

Figure = float | npt.NDArray[np.uint8]
Rows = Mapping[str, torch.Tensor]
# Modules; a task knows of which class its own are.
Nets = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """One micro-batch's share of a player's update.

    loss: scalar with graph, the micro-batch's sum over the *global* denominators, so that adding up micro-batches and
        processes gives the loss of the global batch.
    logs: scalars that add up in the same way.
    on_log: gives further figures of this micro-batch; called where a line is logged, on the main process.
    """

    loss: torch.Tensor
    logs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    on_log: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Sum:
    """Ask for the sum of a tensor over the micro-batches of the global batch, without gradient.

    rerun: what was asked cost a pass of the network, whose graph must not be held until the answer is there. The loss
        of a cut batch then begins anew, with the same random numbers, and finds its answers ready.
    """

    value: torch.Tensor
    rerun: bool = False


@dataclass(frozen=True)
class Join:
    """Ask for the rows, by name, of all micro-batches of the global batch, without gradient. `rerun`: see Sum."""

    rows: Rows
    rerun: bool = False


Loss = StepOutput | Generator[Sum | Join, Any, StepOutput]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose update it is, and what its loss may use.

    player: its name. net: its network as it must be called (wrapped for the processes), once in a loss.
    nets: all players' bare networks; the others' give no gradient to their own weights.
    ema: running means as networks without gradient, of the players that have one.
    whole: the micro-batch is the whole global batch, so that there is nothing to ask.
    """

    player: str
    step: int
    net: nn.Module
    nets: Nets
    ema: Nets
    whole: bool


class Task:
    """Networks and what one update of them means.

    contract: what clips they take. carry: what their batches hold beside the video (echofm.shards.carry).
    Everything trainable runs inside `turn.net`; every draw about a clip comes from its seed `draw_B` (echofm.draws), or
    the result depends on how the batch is cut.
    """

    contract: InputContract
    carry: Sequence[Carry] = ()

    def players(self) -> Sequence[Player]:
        """The networks that learn, in the order of their turns, whose names are unlike. Called once."""
        raise NotImplementedError

    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks that are used and not trained (an encoder, a codec, a teacher), outside the players' own.

        They are moved to the device, put in evaluation mode, their gradients switched off. They are in no saved state;
        their digests are in env.json, so that a resumed run has the same, and in the card.
        """
        return {}

    def digests(self) -> Mapping[str, str]:
        """Digests of what else the run begins from (initial weights), for env.json and the card."""
        return {}

    def batches(self, shards: ShardSet, config: FitConfig, *, start_step: int) -> Iterator[ClipBatch]:
        """This process's slices of the global batches from `start_step` on: one window of each training clip."""
        return train_batches(
            shards,
            frames=self.contract.frames,
            frame_rate_hz=self.contract.frame_rate_hz,
            batch=config.batch,
            rank=processes().process_index,
            world=processes().num_processes,
            workers=config.workers,
            seed=config.seed,
            start_step=start_step,
            carry=self.carry,
        )

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Augment, resize, encode by a frozen network: once per update, on the device, without gradient."""
        return batch

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The micro-batch's share of a player's loss: a StepOutput, or a generator that asks, then returns one.

        Every micro-batch must ask the same, in the same order, outside any `with torch.no_grad()` block.
        """
        raise NotImplementedError

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Figures of the networks (running means where there are some) after `step` updates, 0: before the first.

        Called on every process, in evaluation mode, without gradient and without a trace in the random numbers. Each
        measures its part of the held-out clips (`own_share`) and joins the results (`joined_rows`). A uint8 array
        (H, W, 3) is a picture.
        """
        return {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """Write what is worth keeping (running means where there are some) into an empty folder, on the main process.

        card: facts for the model card: the run, digests of what it began from, the figures measured last.
        By default PLAYER.safetensors of each player and card.json; a model that others load has its kind in echofm.hub.
        """
        for name, net in nets.items():
            save_file(apart(net.state_dict()), folder / f"{name}.safetensors")
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    def advice(self) -> str:
        """What to change in this task when memory runs out, e.g. `--grad-checkpointing`; may be empty."""
        return ""
