"""From motion and one frame's appearance to flow, mask and the frame between.

B pairs, J heads of motion, h rows, w columns of places (a quarter of the frame's size), D features; H, W of the frame.
"""

from __future__ import annotations

import torch
from torch import nn

from synth.mafe.warp import resized

_PIXELS_PER_PLACE = 4
# The refinement changes no pixel by more: it is for speckle, which does not follow the flow.
_MOST_CHANGE = 0.25


class FlowDecoder(nn.Module):
    """Flow from the middle frame to both ends, and how much of each end to take.

    It sees the motion of the pair and the appearance of the first frame, never the other frame: all that it knows of
    what moved comes through the motion, so motion of one heart can be given the anatomy of another. No motion gives no
    flow, whatever the anatomy.
    """

    def __init__(self, features: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.anatomy = nn.Conv2d(features, hidden // 2, 1)
        self.direct = nn.Conv2d(4 * heads, 4, 1, bias=False)
        self.mix = nn.Sequential(
            nn.Conv2d(4 * heads + 1 + hidden // 2, hidden, 3, padding=1), nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GELU(),
        )  # fmt: skip
        # At first every head's mean displacement is the flow, unmixed.
        last = _silent(hidden // 2, 5)
        self.fine = nn.Sequential(nn.Conv2d(hidden, hidden // 2, 3, padding=1), nn.GELU(), last)
        with torch.no_grad():
            self.direct.weight.zero_()
            for axis in (0, 1):
                self.direct.weight[axis, axis : 2 * heads : 2] = -1 / heads
                self.direct.weight[2 + axis, 2 * heads + axis :: 2] = -1 / heads

    def forward(
        self, forth_BJhw: torch.Tensor, back_BJhw: torch.Tensor, first_BDhw: torch.Tensor, time_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow (B, 4, H/2, W/2), pixels of the frame, to the first (0:2) and the last; mask logit (B, 1, H/2, W/2).

        forth: motion of the first frame's places to the last. back: the reverse. first: features of the first frame.
        """
        time_B111 = time_B.to(forth_BJhw.dtype).view(-1, 1, 1, 1)
        motion = torch.cat([time_B111 * forth_BJhw, (1 - time_B111) * back_BJhw], 1)
        beside = torch.cat([time_B111.expand(-1, 1, *motion.shape[2:]), self.anatomy(first_BDhw)], 1)
        both = torch.cat([torch.cat([motion, torch.zeros_like(motion)]), torch.cat([beside, beside])], 1)
        found, still = self.fine(resized(self.mix(both), 2)).chunk(2)
        flow_B4hw = _PIXELS_PER_PLACE * (resized(self.direct(motion), 2) + found[:, :4] - still[:, :4])
        # The nearer end counts for more before anything is learnt.
        return flow_B4hw, found[:, 4:] + torch.logit(1 - time_B111.clamp(0.05, 0.95))


class Refinement(nn.Module):
    """A small correction of the blend, from the blend, both warped ends and the mask, all (B, 1, H, W)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(4, hidden, 3, padding=1), nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GELU(),
            _silent(hidden, 1),
        )  # fmt: skip

    def forward(self, *images_B1HW: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W), at most a quarter of the range either way."""
        return _MOST_CHANGE * self.net(torch.cat(images_B1HW, 1)).tanh()


def _silent(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that gives zero until it has learnt."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
