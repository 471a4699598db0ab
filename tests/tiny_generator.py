"""A generator of a few pixels whose weights are off zero, as after training."""

from __future__ import annotations

import torch

from synth.condition_field import Sizes
from synth.generator.config import DataConfig, NetworkConfig, PathName
from synth.generator.denoiser import Denoiser
from synth.generator.model import Generator, GeneratorConfig
from synth.latent.codec import PixelCodec
from synth.text.grammar import VOCABULARY


def tiny_generator(
    conditions: tuple[str, ...],
    *,
    frames: int = 4,
    path: PathName = "flow",
    size: int = 16,
    network: NetworkConfig | None = None,
) -> Generator:
    """Of the global seed."""
    codec, network = PixelCodec(size=size), network or NetworkConfig(width=16, depth=1, heads=2, patch=8)
    sizes = Sizes(width=network.width, latent=(1, size, size), views=("A4C", "PLAX"), words=VOCABULARY)
    config = GeneratorConfig(
        network=network,
        path=path,
        conditions=conditions,
        sizes=sizes,
        data=DataConfig(frames=frames, frame_rate_hz=12.5 if frames > 1 else None),
        codec=codec.architecture,
        spread={"ef_percent": (20.0, 50.0, 70.0), "heart_rate_bpm": (50.0, 90.0)},
    )
    denoiser = Denoiser(network, path=path, conditions=conditions, sizes=sizes)
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return Generator(config, denoiser, codec)
