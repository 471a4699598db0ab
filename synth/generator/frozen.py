"""What a generator's training takes from frozen networks, and whether they fit.

Shapes: B clips, C channels, T frames, H rows, W columns; N tokens of the encoder, D numbers.
"""

from __future__ import annotations

import functools

import torch

from echofm.encoder import AnyEncoder
from echofm.errors import EchofmError
from echofm.model.vit import Encoding
from echofm.shards.read import ShardSet
from synth.condition_fields import FIELDS
from synth.generator.config import DataConfig, GeneratorRecipe
from synth.generator.model import Generator
from synth.latent.codec import Codec

# Windows of encoder and generator may differ by rounded rates, not by frames.
_SAME_LENGTH = 0.03


class Seen:
    """What a frozen network (an encoder, or a motion network as one) says of the clips that a generator is trained on.

    Frames are repeated or left out by nearest time where its rate is another. name: of the option that gave it.
    """

    def __init__(self, network: AnyEncoder, data: DataConfig, *, name: str) -> None:
        self._network, contract = network, network.contract
        ours, theirs = (
            frames / rate_hz if rate_hz else None
            for frames, rate_hz in ((data.frames, data.frame_rate_hz), (contract.frames, contract.frame_rate_hz))
        )
        if ours is None or theirs is None or abs(ours / theirs - 1) > _SAME_LENGTH:
            raise EchofmError(
                f"{name} sees {_length(theirs)}, the generator makes {_length(ours)}; give --data.frames and "
                "--data.frame-rate-hz of equal length, or another network"
            )
        self._frames = (torch.arange(contract.frames) + 0.5).mul(data.frames / contract.frames).long()
        assert network.grid is not None, "an encoder of ours has tokens"
        self.grid = network.grid

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """Times, and numbers of each: of `phase_BTD`."""
        contract = self._network.contract
        blank_BCTHW = torch.zeros(1, contract.channels, contract.frames, contract.size, contract.size)
        blank_BCTHW[..., contract.size // 2, contract.size // 2] = 1
        times, numbers = self._network.encode(blank_BCTHW).phase_BTD.shape[1:]
        return times, numbers

    def __call__(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Of clips in [0, 1]."""
        return self._network.encode(video_BCTHW[:, :, self._frames.to(video_BCTHW.device)])

    def by_time(self, tokens_BND: torch.Tensor) -> torch.Tensor:
        """The mean of each time's tokens, (B, times, D)."""
        return tokens_BND.unflatten(1, (self.grid.time, -1)).mean(2)


def _length(seconds: float | None) -> str:
    return "clips of no fixed rate" if seconds is None else f"{seconds:.2f} s"


def with_base(recipe: GeneratorRecipe, base: Generator | None) -> GeneratorRecipe:
    """The recipe with what a branch's base decides. Raises EchofmError where the two do not go together."""
    if (base is None) != (not recipe.control):
        raise EchofmError("a ControlNet branch (--control) and the generator that it is for (--base) go together")
    if base is None:
        return recipe
    config = base.config
    if config.control or set(recipe.control) & set(config.conditions):
        raise EchofmError(f"--base takes {', '.join((*config.conditions, *config.control))} already; take another one")
    for name in recipe.control:
        if name not in FIELDS or FIELDS[name].way != "channels":
            raise EchofmError(f"--control {name}: a branch is shown conditions of pixels: label-map, reference")
    own = {name: getattr(config, name) for name in ("network", "path", "shift", "conditions", "data")}
    return recipe.model_copy(update=own)


def require_fit(
    recipe: GeneratorRecipe, shards: ShardSet, codec: Codec, *, encoder: AnyEncoder | None, motion: AnyEncoder | None
) -> None:
    """Raises EchofmError, by name, where networks, shards and recipe do not fit one another."""
    manifest, needs_pixels = shards.manifest, encoder is not None or motion is not None
    for name in recipe.conditions:
        if name not in FIELDS:
            raise EchofmError(f"no condition {name!r}; there are {', '.join(FIELDS)}")
    if encoder is None and ("embedding" in recipe.conditions or recipe.repa.weight):
        raise EchofmError("the condition `embedding` and --repa.weight take an encoder: give --encoder E")
    for name, network in (("--encoder", encoder), ("--motion", motion)):
        if network is not None and network.contract.size != codec.contract.size:
            raise EchofmError(
                f"{name} sees clips of {network.contract.size} pixels a side, the codec of {codec.contract.size}; "
                "give two of one size"
            )
    if motion is None and "motion" in recipe.conditions:
        raise EchofmError("the condition `motion` takes a motion network: give --motion RUN")
    if manifest.latents is not None:
        if manifest.latents.codec_digest != codec.digest:
            raise EchofmError(
                f"the shards hold latents of codec {manifest.latents.codec_digest[:12]}, --codec is "
                f"{codec.digest[:12]}; give the codec that wrote them"
            )
        if needs_pixels:
            raise EchofmError("--encoder and --motion see pixels: give the shards of pixels as --data, and --codec")
    elif manifest.settings.channels != 1:
        raise EchofmError("the shards are in colour, the codec is grey: write them with `echofm shards --channels 1`")
    if manifest.settings.size < codec.contract.size:
        raise EchofmError(
            f"the shards hold clips of {manifest.settings.size} pixels a side, the codec takes {codec.contract.size}; "
            f"write them with `echofm shards --size {codec.contract.size}`"
        )
