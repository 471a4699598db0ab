"""What a single frame shows: the encoder's tokens of this frame alone, and fine features beside them.

N frames, H rows, W columns, h = H / 4, w = W / 4, D features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from echofm.model.tokens import Grid
from echofm.model.vit import VideoEncoder
from synth.mafe.warp import resized

# Rows and columns of the encoder's tokens that appearance is read from: where a wall stands tells who it is.
POOLED = 4


class Seen(NamedTuple):
    """features_NhwD: for motion and flow. tokens_NF: the encoder's own, pooled to 4 x 4, for the appearance."""

    features_NhwD: torch.Tensor
    tokens_NF: torch.Tensor


class FrameFeatures(nn.Module):
    """A map of features at a quarter of the size, from one frame: nothing of another frame can be in it.

    The encoder sees the frame repeated over one tubelet in the middle of its window. frozen: without gradient.
    """

    def __init__(self, encoder: VideoEncoder, *, width: int, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.frozen = encoder.requires_grad_(not frozen), frozen
        if encoder.phase is not None:
            # It has no part in the tokens of one time index.
            encoder.phase.requires_grad_(False)
        self.fine = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip
        self.coarse = nn.Linear(encoder.embed_dim, width)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, frame_N1HW: torch.Tensor) -> Seen:
        """(N, h, w, 2 * width) and tokens. Grey values in [0, 1]."""
        fine_NDhw, tokens_NrcD = self.fine(frame_N1HW), self._tokens(frame_N1HW)
        coarse_NDrc = self.coarse(tokens_NrcD).permute(0, 3, 1, 2)
        coarse_NDhw = resized(coarse_NDrc, fine_NDhw.shape[-1] / coarse_NDrc.shape[-1])
        return Seen(
            features_NhwD=self.norm(torch.cat([fine_NDhw, coarse_NDhw], 1).permute(0, 2, 3, 1)),
            tokens_NF=F.adaptive_avg_pool2d(tokens_NrcD.permute(0, 3, 1, 2), POOLED).flatten(1),
        )

    def _tokens(self, frame_N1HW: torch.Tensor) -> torch.Tensor:
        """(N, rows, columns, D) of the encoder."""
        encoder, frames = self.encoder, len(frame_N1HW)
        rows, columns = (side // encoder.patch for side in frame_N1HW.shape[2:])
        times = encoder.positions.grid.time
        ids_K = torch.arange(rows * columns, device=frame_N1HW.device) + times // 2 * rows * columns
        shown_NCTHW = frame_N1HW[:, :, None].expand(-1, encoder.channels, encoder.tubelet, -1, -1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens_NKD = encoder.single_times(shown_NCTHW, ids_K.expand(frames, -1), grid=Grid(times, rows, columns))
        return tokens_NKD.unflatten(1, (rows, columns))
