"""EchoPrime's video encoder (arXiv 2410.09704) from its published weights, with its published pre-processing.

torchvision's mvit_v2_s with a linear layer to 512 numbers; 32 frames of which every second is seen, 224 x 224, RGB
normalised on the scale 0 to 255.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from echofm.backbones.frozen import FrozenEncoder, encoding_of_tokens, load_strictly, seeded
from echofm.backbones.spec import Spec
from echofm.contract import InputContract
from echofm.model.checkpoint import read_weights
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

MEAN_255, STD_255 = (29.110628, 28.076836, 29.096405), (47.989223, 46.456997, 47.20083)
FRAMES, STRIDE, SIZE, WIDTH = 32, 2, 224, 512
_GRID = Grid(8, 7, 7)


class EchoPrimeVideo(nn.Module):
    """mvit_v2_s: the clip's vector is the published embedding (512); tokens are those of its last block (768)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.video import mvit_v2_s

        self.model: Any = mvit_v2_s()
        self.model.head[-1] = nn.Linear(self.model.head[-1].in_features, WIDTH)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Of every second frame."""
        kept: list[torch.Tensor] = []
        hook = self.model.norm.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            video_BD = self.model(video_BCTHW[:, :, ::STRIDE])
        finally:
            hook.remove()
        # The first is the class token.
        return encoding_of_tokens(kept[0][:, 1:], _GRID, video_BD=video_BD)


def open_echoprime(spec: Spec) -> FrozenEncoder:
    """`echoprime:PATH`, PATH the published echo_prime_encoder.pt; `random:echoprime:any` needs no file."""
    spec.only()
    # Weights that are about to be replaced need not be drawn.
    with seeded(spec.seed), torch.device("cpu" if spec.random else "meta"):
        net = EchoPrimeVideo()
    if not spec.random:
        load_strictly(net.model, read_weights(spec.name), path=spec.name)
    return FrozenEncoder(
        net,
        contract=InputContract(size=SIZE, frames=FRAMES, channels=3, colour="rgb"),
        grid=_GRID,
        sees_time=True,
        settings={"encoder": "echoprime"},
        mean=tuple(value / 255 for value in MEAN_255),
        std=tuple(value / 255 for value in STD_255),
    )
