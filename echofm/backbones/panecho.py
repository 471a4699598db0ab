"""PanEcho's video backbone (Holste et al. 2024) from its published weights, with its published pre-processing.

torchvision's convnext_tiny on every frame, fixed sinusoidal positions, a transformer over the frames, their mean; 16
frames of 112 x 112, ImageNet normalisation.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from echofm.backbones.frozen import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FrozenEncoder,
    encode_frames,
    load_strictly,
    seeded,
)
from echofm.backbones.spec import Spec
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.model.checkpoint import read_weights
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

FRAMES, SIZE, WIDTH, DEPTH, HEADS = 16, 112, 768, 4, 8
# A convnext_tiny halves a frame five times: 112 pixels become 3 places.
_GRID = Grid(FRAMES, SIZE // 32, SIZE // 32)


class PanEchoVideo(nn.Module):
    """Tokens are the image model's maps, moments the transformer's outputs, the clip's vector their mean (768)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import convnext_tiny

        self.image = convnext_tiny()
        self.image.classifier[-1] = nn.Identity()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, dim_feedforward=WIDTH, dropout=0.0, activation="relu", batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, num_layers=DEPTH, enable_nested_tensor=False)
        self.positions = nn.Parameter(_sinusoids(FRAMES, WIDTH))

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Frames, then their order."""
        seen = encode_frames(self._see, video_BCTHW)
        phase_BTD = self.transformer(seen.phase_BTD + self.positions)
        return Encoding(tokens_BND=seen.tokens_BND, phase_BTD=phase_BTD, video_BD=phase_BTD.mean(1))

    def _see(self, frames_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps_NDRC = self.image.features(frames_NCHW)
        return self.image.classifier(self.image.avgpool(maps_NDRC)), maps_NDRC.flatten(2).transpose(1, 2)


# Ours: theirs.
_NAMES = {"image.": "encoder.model.", "transformer.": "transformer.", "positions": "time_encoder.pe"}


def published_name(name: str) -> str:
    """The name of one of our tensors in the published backbone."""
    for ours, theirs in _NAMES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def open_panecho(spec: Spec) -> FrozenEncoder:
    """`panecho:PATH`, PATH the published panecho.pt or a state_dict of its backbone; `random:panecho:any` no file."""
    spec.only()
    # Weights that are about to be replaced need not be drawn.
    with seeded(spec.seed), torch.device("cpu" if spec.random else "meta"):
        net = PanEchoVideo()
    if not spec.random:
        load_strictly(net, _renamed(read_weights(spec.name), net, path=spec.name), path=spec.name)
    return FrozenEncoder(
        net,
        contract=InputContract(size=SIZE, frames=FRAMES, channels=3, colour="rgb"),
        grid=_GRID,
        sees_time=True,
        settings={"encoder": "panecho"},
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _renamed(weights: dict[str, torch.Tensor], net: PanEchoVideo, *, path: str) -> dict[str, torch.Tensor]:
    """The backbone's tensors under our names; the heads of the reporting tasks are left out."""
    # The whole model holds the backbone as "encoder." beside "<task>_head."; the backbone alone begins the same way.
    whole = any(name.startswith("encoder.encoder.") for name in weights)
    prefix = "encoder." if whole else ""
    expected = {prefix + published_name(name): name for name in net.state_dict()}
    heads = {name for name in weights if name.partition(".")[0].endswith("_head")}
    if unknown := sorted(set(weights) - set(expected) - heads):
        raise EchofmError(f"{path}: {unknown[0]!r} is unknown ({len(unknown)} in all); this is no PanEcho checkpoint")
    return {expected[name]: tensor for name, tensor in weights.items() if name in expected}


def _sinusoids(count: int, width: int) -> torch.Tensor:
    """Sine and cosine in turn, wavelengths from 2 pi to 10,000 * 2 pi (arXiv 1706.03762), (1, count, width)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(count)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[None]
