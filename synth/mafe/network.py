"""Mafe: motion and appearance of pairs of frames, on an EchoFM encoder.

B pairs, H rows, W columns, h = H / 4, w = W / 4, J heads, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from echofm.model.vit import VideoEncoder
from echofm.saveable import Saveable
from echofm.schema import FrozenModel
from synth.mafe.appearance import Appearance
from synth.mafe.attention import MotionAttention
from synth.mafe.config import MafeConfig
from synth.mafe.decoder import FlowDecoder, Refinement
from synth.mafe.frame import POOLED, FrameFeatures
from synth.mafe.warp import resized, warp

_ABOUT = """# Motion and appearance of echocardiograms

Heads on an EchoFM encoder that tell how a heart moves from how it looks, trained without labels
(after MAFE, arXiv 2512.09418).

```
echofm synth motion THIS_FOLDER SRC TABLE
```"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Between:
    """The frame between two, predicted.

    pred: (B, 1, H, W). warped: both ends at the middle frame. flow_B4hw: pixels, from the middle frame to the first
    (0:2) and the last, at half the size. mask: share of the first end before the refinement.
    forth, back: motion (B, 2J, h, w), in places. appearance: of first and last frame (B, D), of length one.
    """

    pred: torch.Tensor
    warped: tuple[torch.Tensor, torch.Tensor]
    flow_B4hw: torch.Tensor
    mask: torch.Tensor
    forth: torch.Tensor
    back: torch.Tensor
    appearance: tuple[torch.Tensor, torch.Tensor]


class Mafe(Saveable):
    """Motion comes from attention between two frames, appearance from one frame alone.

    config: see MafeConfig. encoder: its weights; None: random ones.
    """

    kind: ClassVar[str] = "mafe"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = MafeConfig
    config: MafeConfig

    def __init__(self, config: MafeConfig, encoder: VideoEncoder | None = None) -> None:
        super().__init__()
        self.config, heads = config, config.heads
        # A copy of its own: the one given may serve elsewhere.
        own = VideoEncoder(config.encoder)
        if encoder is not None:
            own.load_state_dict(encoder.state_dict())
        features = 2 * heads.width
        self.frame = FrameFeatures(own, width=heads.width, frozen=heads.frozen)
        self.motion = MotionAttention(features, heads=heads.heads, head_width=heads.head_width)
        self.decoder = FlowDecoder(features, heads=heads.heads, hidden=heads.hidden)
        self.refine = Refinement(heads.hidden // 4)
        self.appearance = Appearance(own.embed_dim * POOLED**2, heads.appearance)

    def forward(
        self,
        first_B1HW: torch.Tensor,
        last_B1HW: torch.Tensor,
        time_B: torch.Tensor,
        seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Between:
        """Predict the frame at time_B, 0 at the first and 1 at the last. Grey values in [0, 1].

        seen: the same two frames under another look (gain, contrast), from which motion and appearance are told; None:
        the frames themselves.
        """
        features, tokens = self.frame(torch.cat(seen or (first_B1HW, last_B1HW)))
        one, other = features.chunk(2)
        looks = self.appearance(tokens).chunk(2)
        forth, back = self.motion(one, other), self.motion(other, one)
        flow_B4hw, logit = self.decoder(forth, back, one.permute(0, 3, 1, 2), time_B)
        flow_B4HW, mask = resized(flow_B4hw, 2), resized(logit, 2).sigmoid()
        ends = warp(first_B1HW, flow_B4HW[:, :2]), warp(last_B1HW, flow_B4HW[:, 2:])
        blend = mask * ends[0] + (1 - mask) * ends[1]
        # Black outside the sector stays black.
        pred = (blend + self.refine(blend, *ends, mask) * (blend > 0)).clamp(0, 1)
        return Between(
            pred=pred,
            warped=ends,
            flow_B4hw=flow_B4hw,
            mask=mask,
            forth=forth,
            back=back,
            appearance=(looks[0], looks[1]),
        )

    def moved(self, forth: torch.Tensor, back: torch.Tensor, anatomy_BhwD: torch.Tensor) -> torch.Tensor:
        """Flow (B, 2, H, W), pixels, from the last frame of a motion to the first, on this anatomy.

        `warp(frame, moved(...))` is the frame as it would look after the motion, whoever's it is. anatomy: features of
        the frame.
        """
        whole_B = torch.ones(len(forth), device=forth.device)
        return resized(self.decoder(forth, back, anatomy_BhwD.permute(0, 3, 1, 2), whole_B)[0], 2)[:, :2]

    def coarse(self, motion_BJhw: torch.Tensor) -> torch.Tensor:
        """(B, R, C, 2J): motion on the coarse grid, which keeps a contraction; its mean over all space does not."""
        cells = self.config.heads.cells
        return F.adaptive_avg_pool2d(motion_BJhw, cells).permute(0, 2, 3, 1)
