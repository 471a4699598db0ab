"""The published frame-pair network (EMA-VFI, arXiv 2303.00440), trained as MAFE's (arXiv 2512.09418).

Written anew from the facts of its tensors, names as in its weights. B pairs, C channels, H rows, W columns; 2B: the
first B of the pairs' first frames.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from echofm.errors import EchofmError
from echofm.saveable import Saveable
from echofm.schema import FrozenModel
from synth.mafe.published.config import PublishedConfig
from synth.mafe.published.features import MotionFormer
from synth.mafe.published.refine import Refinement
from synth.mafe.warp import resized, resized_flow, warp

_ABOUT = """# A frame-pair network

Predicts the frame between two frames of a beat; its attention between the frames is a motion feature
(arXiv 2512.09418, network of arXiv 2303.00440).

```python
import echofm

network = echofm.load_model("THIS FOLDER")
between = network(first_BCHW, last_BCHW, t=0.5)
```"""


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePair:
    """What the network makes of a pair.

    flow, mask, merged: after each head: (B, 4, H, W) pixels from the middle frame to the first (0:2) and the last
    (2:4); (B, 1, H, W) share of the first; (B, 3, H, W) the blend. pred: (B, 3, H, W) in [0, 1].
    motion, appearance: of the five stages, (2B, C, h, w); the first three stages have no motion channels.
    residual: (B, 3, H, W) of the refinement, in [0, 1], nothing at 0.5.
    """

    flow: tuple[torch.Tensor, ...]
    mask: tuple[torch.Tensor, ...]
    merged: tuple[torch.Tensor, ...]
    pred: torch.Tensor
    motion: tuple[torch.Tensor, ...]
    appearance: tuple[torch.Tensor, ...]
    residual: torch.Tensor


class FlowHead(nn.Module):
    """Flow and mask out of one stage, at a quarter of its places' size; the second corrects the first."""

    def __init__(self, features: int, images: int, *, hidden: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        widths = (features // 16 + images, hidden, hidden, 5)
        self.conv = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.PReLU(width))
                for inputs, width in itertools.pairwise(widths)
            )
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(
        self, features_BCHW: torch.Tensor, images_BCHW: torch.Tensor, flow_B4HW: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What it adds to flow and mask logit, at the size of the images."""
        down = 4 / self.scale
        parts = [self.shuffle(self.shuffle(features_BCHW)), resized(images_BCHW, down)]
        if flow_B4HW is not None:
            parts.append(resized_flow(flow_B4HW, down))
        found = self.conv(torch.cat(parts, 1))
        return resized_flow(found[:, :4], 1 / down), resized(found[:, 4:], 1 / down)


class PublishedMafe(Saveable):
    """Two frames of a beat in, the frame at time t between them out, with the features on the way."""

    kind: ClassVar[str] = "mafe_published"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = PublishedConfig
    config: PublishedConfig

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_bone = MotionFormer(config)
        heads = []
        for number, scale in enumerate(config.scales):
            stage = -1 - number
            features = 2 * (config.embed_dims[stage] + config.motion_dims[stage] * config.depths[stage])
            images = 6 if number == 0 else 17
            heads.append(FlowHead(features, images, hidden=config.head_hidden[number], scale=scale))
        self.block = nn.ModuleList(heads)
        self.unet = Refinement(config.embed_dims, config.refine_c)

    def forward(self, img0_BCHW: torch.Tensor, img1_BCHW: torch.Tensor, t: float | torch.Tensor = 0.5) -> FramePair:
        """img0, img1: three channels in [0, 1]. t: of the middle frame, 0 at the first; a number or (B,).

        Raises EchofmError where the images' sides are no multiples of 16.
        """
        if img0_BCHW.shape != img1_BCHW.shape or any(side % 16 for side in img0_BCHW.shape[2:]):
            raise EchofmError(f"frames of {tuple(img0_BCHW.shape)}: give two alike, with sides that 16 divides")
        pairs = len(img0_BCHW)
        appearance, motion = self.feature_bone(torch.cat([img0_BCHW, img1_BCHW]))
        # The whole pass in one time, or a time for each pair.
        time = torch.as_tensor(t, dtype=img0_BCHW.dtype, device=img0_BCHW.device).reshape(-1, 1, 1, 1)
        found: dict[str, list[torch.Tensor]] = {name: [] for name in ("flow", "mask", "merged")}
        flow, logit, images = None, None, torch.cat([img0_BCHW, img1_BCHW], 1)
        for number, head in enumerate(self.block):
            moved, seen = motion[-1 - number], appearance[-1 - number]
            features = [time * moved[:pairs], (1 - time) * moved[pairs:], seen[:pairs], seen[pairs:]]
            added = head(torch.cat(features, 1), images, flow)
            flow, logit = added if flow is None or logit is None else (flow + added[0], logit + added[1])
            mask = logit.sigmoid()
            ends = warp(img0_BCHW, flow[:, :2]), warp(img1_BCHW, flow[:, 2:])
            images = torch.cat([img0_BCHW, img1_BCHW, *ends, logit], 1)
            merged = mask * ends[0] + (1 - mask) * ends[1]
            for name, value in zip(found, (flow, mask, merged)):
                found[name].append(value)
        assert flow is not None
        residual = self.unet(torch.cat([images, flow], 1), *_warped(appearance, flow, pairs))
        return FramePair(
            flow=tuple(found["flow"]),
            mask=tuple(found["mask"]),
            merged=tuple(found["merged"]),
            pred=(found["merged"][-1] + 2 * residual - 1).clamp(0, 1),
            motion=tuple(motion),
            appearance=tuple(appearance),
            residual=residual,
        )


def _warped(
    appearance: list[torch.Tensor], flow_B4HW: torch.Tensor, pairs: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The appearance of the first and of the last frames, every stage warped by the flow at its size."""
    first, last = [], []
    for number, stage in enumerate(appearance):
        if number:
            flow_B4HW = resized_flow(flow_B4HW, 0.5)
        first.append(warp(stage[:pairs], flow_B4HW[:, :2]))
        last.append(warp(stage[pairs:], flow_B4HW[:, 2:]))
    return first, last
