"""Distance of two clips in the features of a frozen encoder.

B clips, C channels, T frames, H rows, W columns; N tokens of width D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from echofm.errors import EchofmError

if TYPE_CHECKING:
    from echofm.hub import Encoder

_BLOCKS = 3


class PerceptualDistance(nn.Module):
    """Squared distance of an encoder's tokens, each of length 1, the mean over tokens and over three of its blocks.

    As Zhang et al. 2018 (arXiv 1801.03924) have it of an image network's layers, all channels weighed alike; the last
    block is one of the three.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.net, self.contract, self.digest = encoder.net, encoder.contract, encoder.digest
        depth = len(self.net.blocks)
        self._blocks = sorted({max(0, round(depth * (number + 1) / _BLOCKS) - 1) for number in range(_BLOCKS)})

    @property
    def tubelet(self) -> int:
        """Frames of a token: clips have a multiple of it."""
        return self.net.tubelet

    def forward(self, output_BCTHW: torch.Tensor, target_BCTHW: torch.Tensor) -> torch.Tensor:
        """(B,) distances, with gradient for the first; values in [0, 1], sizes that the encoder's patches tile.

        Raises EchofmError on clips that the encoder's tubelets do not tile.
        """
        with torch.no_grad():
            target = self._tokens(target_BCTHW)
        pairs = zip(self._tokens(output_BCTHW), target)
        return torch.stack([(one - other).square().sum(2).mean(1) for one, other in pairs]).mean(0)

    def _tokens(self, video_BCTHW: torch.Tensor) -> list[torch.Tensor]:
        if video_BCTHW.shape[1] != self.net.channels:
            raise EchofmError(f"the encoder sees {self.net.channels} channels, the clips have {video_BCTHW.shape[1]}")
        found = self.net.forward_intermediates(
            video_BCTHW, self._blocks, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return [nn.functional.normalize(tokens_BND, dim=2) for tokens_BND in found]
