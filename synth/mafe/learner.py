"""Learners: a network of either kind as training calls it, with what only training needs.

B pairs, H rows, W columns, h = H / 2, w = W / 2, E numbers of an identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from synth.mafe.network import Mafe
from synth.mafe.published.network import PublishedMafe

Frames = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Learnt:
    """What the losses see.

    pred (B, C, H, W), and what else is to show the middle frame: blends or warped ends. flow_B4hw: pixels at full size.
    identity: of first and last frame (B, E), None without an appearance teacher. motion: (2B, M, h, w) as a feature.
    """

    pred: torch.Tensor
    parts: Sequence[torch.Tensor]
    flow_B4hw: torch.Tensor
    identity: Frames | None
    motion: torch.Tensor
    appearance: Frames


class Learner(nn.Module):
    """net: what is exported. appearance: its numbers. identity: E of the teacher; 0: none."""

    def __init__(self, net: nn.Module, *, appearance: int, identity: int) -> None:
        super().__init__()
        self.net = net
        self.to_identity = nn.Linear(appearance, identity) if identity else None

    def _identity(self, appearance: Frames) -> Frames | None:
        if self.to_identity is None:
            return None
        return self.to_identity(appearance[0]), self.to_identity(appearance[1])


class EchofmLearner(Learner):
    """Mafe, every weight that the losses do not reach left out of training."""

    def __init__(self, net: Mafe, *, identity: int) -> None:
        super().__init__(net, appearance=net.config.heads.appearance, identity=identity)
        net.appearance.requires_grad_(bool(identity))

    def forward(self, first: torch.Tensor, last: torch.Tensor, time_B: torch.Tensor, seen: Frames) -> Learnt:
        """The frames (B, 1, H, W), and the same under the look that features are told from."""
        found = self.net(first, last, time_B, seen)
        return Learnt(
            pred=found.pred,
            parts=found.warped,
            flow_B4hw=found.flow_B4hw,
            identity=self._identity(found.appearance),
            motion=torch.cat([found.forth, found.back]),
            appearance=found.appearance,
        )


class PublishedLearner(Learner):
    """The published network; identities are read from the mean of its last appearance map."""

    def __init__(self, net: PublishedMafe, *, identity: int) -> None:
        super().__init__(net, appearance=net.config.embed_dims[-1], identity=identity)

    def forward(self, first: torch.Tensor, last: torch.Tensor, time_B: torch.Tensor, seen: Frames) -> Learnt:
        """The frames (B, 1, H, W), grey, shown on three channels as published; `seen` is not used."""
        found = self.net(first.expand(-1, 3, -1, -1), last.expand(-1, 3, -1, -1), time_B)
        pooled = found.appearance[-1].mean((2, 3)).split(len(first))
        appearance = pooled[0], pooled[1]
        return Learnt(
            pred=found.pred.mean(1, keepdim=True),
            parts=[each.mean(1, keepdim=True) for each in found.merged],
            flow_B4hw=F.avg_pool2d(found.flow[-1], 2),
            identity=self._identity(appearance),
            motion=found.motion[-1],
            appearance=appearance,
        )
