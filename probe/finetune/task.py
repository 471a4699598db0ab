"""The fine-tuning task: an encoder and a linear head learn a label; the squared error, or balanced cross-entropy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from echofm.augment import fit_to, vary_grey
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.config import FitConfig
from echofm.engine.player import Player
from echofm.engine.task import Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.estimators.penalised import class_weights
from echofm.hub import save_model
from echofm.shards.read import ShardSet
from probe.finetune.head import FinetuneNet, Spread
from probe.finetune.recipe import FinetuneRecipe

HEAD = "head.safetensors"


class FinetuneTask(Task):
    """net: begun at the linear probe. values: by clip id, of the training clips, numbers or class numbers.

    spread: of the values that are regressed. classes: how many; 0 for a number.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        net: FinetuneNet,
        *,
        contract: InputContract,
        values: Mapping[str, float],
        spread: Spread,
        classes: int = 0,
    ) -> None:
        self._recipe, self.net, self.contract = recipe, net, contract
        self._values, self._spread, self._classes = values, spread, classes
        self._depth = len(net.encoder.blocks)
        numbers = np.array([int(value) for value in values.values()]) if classes else np.zeros(0, int)
        # The probe's, under which every class counts alike.
        weights = class_weights(numbers, classes) if classes else np.zeros(0)
        found = dict(zip(numbers.tolist(), weights.tolist()))
        self._weight_K = torch.tensor([found.get(number, 1.0) for number in range(classes)])

    def players(self) -> list[Player]:
        fit = self._recipe.fit
        return [
            Player(name="model", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay, lr_scale=self._scale_of_rate)
        ]

    def digests(self) -> Mapping[str, str]:
        return {"initial encoder": self._recipe.encoder_digest}

    def _scale_of_rate(self, name: str) -> float:
        """Layer-wise decay: 1 for head and last norm, then less for each block below."""
        block = re.match(r"encoder\.blocks\.(\d+)\.", name)
        if block is None and name.startswith(("head.", "encoder.norm.")):
            return 1.0
        layer = 0 if block is None else int(block[1]) + 1
        return self._recipe.layer_decay ** (self._depth + 1 - layer)

    def batches(self, shards: ShardSet, config: FitConfig, *, start_step: int) -> Iterator[ClipBatch]:
        """Of the training clips that have the label. Raises EchofmError where they are fewer than a batch."""
        records = [record for record in shards.records if record.clip_id in self._values]
        if len(records) < config.batch:
            raise EchofmError(f"{len(records)} training clips have the label, fewer than --train-batch {config.batch}")
        return super().batches(replace(shards, records=records), config, start_step=start_step)

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the encoder's size and channels, then vary their gain and contrast."""
        return vary_grey(fit_to(batch, self.contract), gain=self._recipe.gain, contrast=self._recipe.contrast)

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's share of the mean loss over the global batch."""
        value_B = torch.tensor([self._values[clip] for clip in batch.clip_ids], device=batch.video_BCTHW.device)
        count = yield Sum(torch.ones_like(value_B).sum())
        low, high = self.contract.value_range
        output_BO = turn.net(batch.video_BCTHW * (high - low) + low)
        if not self._classes:
            missed_B = (output_BO[:, 0] - (value_B - self._spread.mean) / self._spread.scale).square()
        elif output_BO.shape[1] == 1:
            missed_B = F.binary_cross_entropy_with_logits(output_BO[:, 0], value_B.float(), reduction="none")
        else:
            missed_B = F.cross_entropy(output_BO, value_B.long(), reduction="none")
        if self._classes:
            missed_B = missed_B * self._weight_K.to(missed_B.device)[value_B.long()]
        loss = missed_B.sum() / count
        return StepOutput(loss=loss, logs={"error": loss.detach()})

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The encoder as any other is exported, and the head."""
        net: FinetuneNet = nets["model"]
        rights = self._recipe.model_dump(include={"licence", "authors"})
        facts = {**card, "fine-tuned on": self._recipe.target}
        save_model(net.encoder, folder, contract=self.contract, card=facts, **rights)
        save_file(
            {name: each.float().cpu().contiguous() for name, each in net.head.state_dict().items()}, folder / HEAD
        )

    def advice(self) -> str:
        return "a smaller --train-batch"
