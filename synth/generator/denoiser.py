"""Denoiser: what learns of a generator: path, conditioner and network, and the alignment of its hidden tokens.

Shapes: B clips, C channels, T frames, H rows, W columns of latents; N tokens of the encoder, D numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from echofm.model.tokens import Grid
from synth.condition import Condition
from synth.condition_field import Sizes
from synth.conditioner import Conditioner, Encoded
from synth.generator.config import NetworkConfig, PathName
from synth.generator.path import AverageVelocity, DataFlow, Diffusion, Flow, Path, Predict
from synth.generator.transformer import Transformer

PATHS: Mapping[PathName, type[Any]] = {
    "flow": Flow,
    "data-flow": DataFlow,
    "diffusion": Diffusion,
    "average-velocity": AverageVelocity,
}


def path_of(name: PathName, *, shift: float = 1.0) -> Path:
    """A path by its name. Raises EchofmError where it has no times to shift."""
    if shift == 1:
        return PATHS[name]()
    if not issubclass(PATHS[name], Flow):
        raise EchofmError(f"--shift is for flows; leave it out with --path {name}")
    return PATHS[name](shift=shift)


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """What hidden tokens are aligned with: a frozen encoder's tokens_BND of the clean clips, on its grid."""

    tokens_BND: torch.Tensor
    grid: Grid


class Denoiser(nn.Module):
    """The network with what it is told, on a path.

    latent: channels, rows and columns of the latents. control: conditions that enter by a ControlNet branch; after
    `begin_from` all else is frozen. aligned: number of the block whose tokens are aligned with the encoder's of
    `teacher_width` numbers; None: none.
    """

    def __init__(
        self,
        network: NetworkConfig,
        *,
        path: PathName,
        shift: float = 1.0,
        conditions: Sequence[str],
        sizes: Sizes,
        control: Sequence[str] = (),
        aligned: int | None = None,
        teacher_width: int = 0,
    ) -> None:
        super().__init__()
        self.path = path_of(path, shift=shift)
        self.conditioner = Conditioner(conditions, sizes, control=control)
        shape: dict[str, Any] = {"channels": sizes.latent[0], "extra": self.conditioner.channels}
        self.network: nn.Module
        if network.kind == "transformer":
            tokens = any(field.way == "tokens" for field in self.conditioner.fields)
            shape["control"] = self.conditioner.control_channels
            self.network = Transformer(network, **shape, two_times=self.path.two_times, tokens=tokens)
        elif control:
            raise EchofmError("a ControlNet branch is for generators of --network.kind transformer")
        else:
            from synth.generator.unet import VideoUnet

            self.network = VideoUnet(network, **shape, two_times=self.path.two_times)
        self.aligned = aligned
        self.align = None if aligned is None else nn.Conv2d(network.width, teacher_width, 3, padding=1)

    def begin_from(self, base: Denoiser) -> None:
        """Take over a trained one's weights, freeze them, and begin the branch from them."""
        own = self.load_state_dict(base.state_dict(), strict=False)
        assert not own.unexpected_keys and isinstance(self.network, Transformer) and self.network.control is not None
        self.network.control.begin_from(list(self.network.blocks))
        learning = [self.network.control, *(self.conditioner.parts[name] for name in self.conditioner.control)]
        self.requires_grad_(False)
        for part in learning:
            part.requires_grad_(True)

    def forward(
        self,
        latents_BCTHW: torch.Tensor,
        condition: Condition,
        draw_B: torch.Tensor,
        valid_BT: torch.Tensor,
        teacher: Teacher | None = None,
    ) -> dict[str, torch.Tensor]:
        """Each clip's losses: "path_B" and, where hidden tokens are aligned, "repa_B"."""
        times, noise_BCTHW = self.path.times(draw_B), self.path.noise(draw_B, *latents_BCTHW.shape[1:])
        encoded = self.conditioner(condition, latents_BCTHW.shape[2])
        hidden: list[torch.Tensor] = []

        def predict(noisy: torch.Tensor, time_B: torch.Tensor, interval_B: torch.Tensor) -> torch.Tensor:
            output, kept = self.network(noisy, time_B, interval_B, encoded, hidden=self.aligned)
            if kept is not None:
                hidden.append(kept)
            return output

        losses = {"path_B": self.path.loss_B(predict, latents_BCTHW, noise_BCTHW, times, valid_BT)}
        if self.align is not None:
            losses["repa_B"] = self._unlike(hidden[-1], teacher)
        return losses

    def predictor(self, encoded: Encoded) -> Predict:
        """The network under an encoded condition, as samplers call it."""
        return lambda noisy, time_B, interval_B: self.network(noisy, time_B, interval_B, encoded)[0]

    def _unlike(self, hidden_BTSD: torch.Tensor, teacher: Teacher | None) -> torch.Tensor:
        """One less the cosine of aligned and teacher's tokens, whose mean over a clip's places is taken off."""
        assert self.align is not None
        if teacher is None:
            # Every weight stays part of the loss: processes wait for each one's gradient.
            return hidden_BTSD.new_zeros(len(hidden_BTSD)) + 0 * sum(each.sum() for each in self.align.parameters())
        clips, frames, places = hidden_BTSD.shape[:3]
        side = round(places**0.5)
        map_NDHW = hidden_BTSD.flatten(0, 1).transpose(1, 2).unflatten(2, (side, places // side))
        grid = teacher.grid
        own_BDTHW = self.align(map_NDHW).unflatten(0, (clips, frames)).transpose(1, 2)
        own_BDTHW = F.adaptive_avg_pool3d(own_BDTHW, (grid.time, grid.rows, grid.columns))
        theirs_BDTHW = teacher.tokens_BND.transpose(1, 2).unflatten(2, tuple(grid))
        theirs_BDTHW = theirs_BDTHW - theirs_BDTHW.mean((3, 4), keepdim=True)
        return 1 - F.cosine_similarity(own_BDTHW.flatten(2), theirs_BDTHW.flatten(2), dim=1).mean(1)
