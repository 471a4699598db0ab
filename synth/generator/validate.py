"""What a generator's training is measured by on held-out clips: its loss, what the conditions are worth, a picture.

Shapes: B clips, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from echofm.draws import Stream, integers
from echofm.engine.parallel import joined_rows, own_share
from echofm.engine.task import Figure
from synth.condition import Condition
from synth.generator.denoiser import Denoiser
from synth.generator.model import Generator
from synth.latent.codec import Codec

_DRAWS, _CLIPS, _FRAMES, _STEPS = 4, 3, 8, 8


class Validation:
    """Of held-out clips as latents, the same times and noises each time."""

    def __init__(self, batch: Any, codec: Codec) -> None:
        self._batch, self._codec = batch, codec

    def __call__(
        self, net: Denoiser, generator: Generator, condition_of: Callable[[Any], Condition]
    ) -> Mapping[str, Figure]:
        """Losses, and real clips above generated ones of the same condition."""
        device = generator.device
        batch = self._batch[own_share(len(self._batch))]
        losses: dict[str, list[torch.Tensor]] = {"asked": [], "unasked": []}
        if len(batch):
            batch = batch.to(device)
            condition, shape = condition_of(batch), self._codec.latent_shape(batch.video_BCTHW.shape[2])
            nothing = net.conditioner.complete(Condition(), len(batch), shape).to(device)
            for number in range(_DRAWS):
                draw_B = integers(batch.draw_B, _DRAWS, high=2**62, stream=Stream.SAMPLER)[:, number]
                for name, given in (("asked", condition), ("unasked", nothing)):
                    losses[name].append(net(batch.video_BCTHW, given, draw_B, batch.valid_BT)["path_B"])
        found = joined_rows({name: torch.stack(each, 1) for name, each in losses.items() if each})
        figures: dict[str, Figure] = {
            "val_loss": float(found["asked"].mean()),
            "val_loss_without_condition": float(found["unasked"].mean()),
        }
        if self._codec.shows and own_share(len(self._batch)).start == 0:
            figures["picture"] = self._picture(generator, condition_of)
        return figures

    def _picture(self, generator: Generator, condition_of: Callable[[Any], Condition]) -> np.ndarray:
        batch = self._batch[:_CLIPS].to(generator.device)
        made = generator.sample(condition_of(batch).to("cpu"), steps=_STEPS, frames=batch.video_BCTHW.shape[2])
        real = self._codec.decode(batch.video_BCTHW).cpu()
        both_BTHW = torch.stack([real[:, 0], made[:, 0]], 1).flatten(0, 1)
        chosen = np.unique(np.linspace(0, both_BTHW.shape[1] - 1, _FRAMES).round().astype(int))
        rows = both_BTHW[:, chosen].permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
        return (255 * rows[..., None].expand(-1, -1, 3)).round().to(torch.uint8).numpy()
