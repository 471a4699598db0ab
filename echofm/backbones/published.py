"""EchoPrime's and PanEcho's video encoders from their published weights, with their published pre-processing.

EchoPrime (arXiv 2410.09704): torchvision's mvit_v2_s with a linear layer to 512 numbers; 32 frames of which every
second is seen, 224 x 224, RGB normalised on the scale 0 to 255. PanEcho (Holste et al. 2024): torchvision's
convnext_tiny on every frame, fixed sinusoidal positions, a transformer over the frames, their mean; 16 frames of
112 x 112, ImageNet normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from echofm.backbones.frozen import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FrozenEncoder,
    encode_frames,
    encoding_of_tokens,
    load_strictly,
    seeded,
)
from echofm.backbones.opening import Spec
from echofm.contract import InputContract
from echofm.errors import EchofmError
from echofm.model.checkpoint import read_weights
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

MEAN_255, STD_255 = (29.110628, 28.076836, 29.096405), (47.989223, 46.456997, 47.20083)
_ECHOPRIME, _ECHOPRIME_GRID = InputContract(size=224, frames=32, channels=3, colour="rgb"), Grid(8, 7, 7)
_STRIDE, _ECHOPRIME_WIDTH = 2, 512
_PANECHO = InputContract(size=112, frames=16, channels=3, colour="rgb")
# A convnext_tiny halves a frame five times: 112 pixels become 3 places.
_PANECHO_GRID = Grid(16, 3, 3)
_WIDTH, _DEPTH, _HEADS = 768, 4, 8


class EchoPrimeVideo(nn.Module):
    """mvit_v2_s: the clip's vector is the published embedding (512); tokens are those of its last block (768)."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models.video import mvit_v2_s

        self.model: Any = mvit_v2_s()
        self.model.head[-1] = nn.Linear(self.model.head[-1].in_features, _ECHOPRIME_WIDTH)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Of every second frame."""
        kept: list[torch.Tensor] = []
        hook = self.model.norm.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            video_BD = self.model(video_BCTHW[:, :, ::_STRIDE])
        finally:
            hook.remove()
        # The first is the class token.
        return encoding_of_tokens(kept[0][:, 1:], _ECHOPRIME_GRID, video_BD=video_BD)


class PanEchoVideo(nn.Module):
    """Tokens are the image model's maps, phase vectors the transformer's outputs, the clip's vector their mean."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import convnext_tiny

        self.image = convnext_tiny()
        self.image.classifier[-1] = nn.Identity()
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, dim_feedforward=_WIDTH, dropout=0.0, activation="relu", batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, num_layers=_DEPTH, enable_nested_tensor=False)
        self.positions = nn.Parameter(_sinusoids(_PANECHO.frames, _WIDTH))

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Frames, then their order."""
        seen = encode_frames(self._see, video_BCTHW)
        phase_BTD = self.transformer(seen.phase_BTD + self.positions)
        return Encoding(tokens_BND=seen.tokens_BND, phase_BTD=phase_BTD, video_BD=phase_BTD.mean(1))

    def _see(self, frames_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps_NDRC = self.image.features(frames_NCHW)
        return self.image.classifier(self.image.avgpool(maps_NDRC)), maps_NDRC.flatten(2).transpose(1, 2)


def open_echoprime(spec: Spec) -> FrozenEncoder:
    """`echoprime:PATH`, PATH the published echo_prime_encoder.pt; `random:echoprime:any` needs no file."""
    net = _opened(spec, EchoPrimeVideo, lambda net: load_strictly(net.model, read_weights(spec.name), path=spec.name))
    mean, std = (tuple(value / 255 for value in values) for values in (MEAN_255, STD_255))
    settings = {"encoder": "echoprime"}
    return FrozenEncoder(
        net, contract=_ECHOPRIME, grid=_ECHOPRIME_GRID, sees_time=True, settings=settings, mean=mean, std=std
    )


def open_panecho(spec: Spec) -> FrozenEncoder:
    """`panecho:PATH`, PATH the published panecho.pt or a state_dict of its backbone; `random:panecho:any` no file."""
    net = _opened(spec, PanEchoVideo, lambda net: load_strictly(net, _panecho_weights(spec.name, net), path=spec.name))
    return FrozenEncoder(
        net,
        contract=_PANECHO,
        grid=_PANECHO_GRID,
        sees_time=True,
        settings={"encoder": "panecho"},
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _opened(spec: Spec, net_of: Callable[[], Any], fill: Callable[[Any], None]) -> nn.Module:
    spec.only()
    # Weights that are about to be replaced need not be drawn.
    with seeded(spec.seed), torch.device("cpu" if spec.random else "meta"):
        net = net_of()
    if not spec.random:
        fill(net)
    return net


# Ours: theirs.
_NAMES = {"image.": "encoder.model.", "transformer.": "transformer.", "positions": "time_encoder.pe"}


def published_name(name: str) -> str:
    """The name of one of our tensors in the published PanEcho."""
    ours = next(each for each in _NAMES if name.startswith(each))
    return _NAMES[ours] + name.removeprefix(ours)


def _panecho_weights(path: str, net: PanEchoVideo) -> dict[str, torch.Tensor]:
    """The backbone's tensors under our names; the heads of the reporting tasks are left out."""
    weights = read_weights(path)
    # The whole model holds the backbone as "encoder." beside "<task>_head."; the backbone alone begins the same way.
    prefix = "encoder." if any(name.startswith("encoder.encoder.") for name in weights) else ""
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
