"""The published condition for generators: the motion of a pair averaged over space.

The mean over space of a linear image of displacements holds at most two numbers a head (facts of the published
network: 192 of 768 at its size), and a contraction about the centre is averaged away. The rest of synth.mafe keeps a
coarse grid instead.
"""

from __future__ import annotations

import torch

from synth.mafe.published.network import FramePair, PublishedMafe


def pooled_motion(found: FramePair) -> torch.Tensor:
    """(2B, motion channels of stages 4 and 5): their means over space."""
    return torch.cat([stage.mean((2, 3)) for stage in found.motion[3:]], 1)


@torch.no_grad()
def motion_condition(network: PublishedMafe, img0_BCHW: torch.Tensor, img1_BCHW: torch.Tensor) -> torch.Tensor:
    """(B, 4 * channels) of each pair: first frame, first frame turned by 180 degrees, last frame, last one turned."""
    pairs = len(img0_BCHW)
    rows = pooled_motion(network(_with_turned(img0_BCHW), _with_turned(img1_BCHW)))
    return rows.reshape(4, pairs, -1).transpose(0, 1).flatten(1)


def _with_turned(image_BCHW: torch.Tensor) -> torch.Tensor:
    return torch.cat([image_BCHW, image_BCHW.flip((2, 3))])
