"""Codec: clips to what a generator works in, and back; always frozen.

Shapes: B clips, C channels, T frames, H rows, W columns of pixels; of latents C channels and h x w places.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.errors import EchofmError
from echofm.hub import load_model
from synth.latent.autoencoder import Autoencoder
from synth.latent.config import AutoencoderConfig

_FRAMES_AT_ONCE = 64


class Codec(nn.Module):
    """What a generator works in: latents of an autoencoder, or pixels.

    contract: of clips with one frame; a codec takes any number of frames.
    scale: pixels a side for each latent. channels: of the latents.
    """

    contract: InputContract
    scale: int
    channels: int

    @property
    def architecture(self) -> dict[str, Any]:
        """What decides its tensors and what it computes, JSON-like; `build_codec` takes it."""
        raise NotImplementedError

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all that decides what it computes: latents of two codecs mix only if it is equal."""
        return tensor_digest(self.state_dict(), settings=self.architecture)

    def latent_shape(self, frames: int) -> tuple[int, int, int, int]:
        """(C, T, h, w) of a clip's latents."""
        side = self.contract.size // self.scale
        return self.channels, frames, side, side

    def encode(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, T, h, w) of clips in [0, 1]. Raises EchofmError naming what does not fit the contract."""
        assert video_BCTHW.ndim == 5, video_BCTHW.shape
        self.contract.model_copy(update={"frames": video_BCTHW.shape[2]}).check(video_BCTHW)
        return self._encoded(video_BCTHW)

    def decode(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        """Clips (B, 1, T, H, W) in [0, 1] of latents (B, C, T, h, w). Raises EchofmError on another shape."""
        wanted = self.latent_shape(latents_BCTHW.shape[2])
        if tuple(latents_BCTHW.shape[1:]) != wanted:
            raise EchofmError(
                f"latents of shape {tuple(latents_BCTHW.shape[1:])} are not this codec's, which are {wanted}; "
                "take the codec that made them"
            )
        return self._decoded(latents_BCTHW).clamp(0, 1)

    def train(self, mode: bool = True) -> Codec:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def _encoded(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _decoded(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class PixelCodec(Codec):
    """No codec: the pixels themselves, from [0, 1] to [-1, 1]."""

    scale = channels = 1

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.contract = InputContract(size=size, frames=1)

    @property
    def architecture(self) -> dict[str, Any]:
        """Its name and the size of the clips."""
        return {"codec": "pixels", "size": self.contract.size}

    def _encoded(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        return 2 * video_BCTHW - 1

    def _decoded(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        return (latents_BCTHW + 1) / 2


class LatentCodec(Codec):
    """An autoencoder's latents: the mean of their posterior, standardised by channel."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self.contract, self.scale, self.channels = net.config.contract, net.config.scale, net.config.latent_channels

    @property
    def architecture(self) -> dict[str, Any]:
        """The autoencoder's."""
        return {"codec": "autoencoder", **self.net.architecture}

    @torch.no_grad()
    def _encoded(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        parts = video_BCTHW.transpose(1, 2).flatten(0, 1).split(_FRAMES_AT_ONCE)
        latents_NChw = torch.cat([self.net.posterior(self.net.seen(part))[0] for part in parts])
        latents_NChw = (latents_NChw - self.net.mean_C[:, None, None]) / self.net.std_C[:, None, None]
        return latents_NChw.unflatten(0, (len(video_BCTHW), -1)).transpose(1, 2)

    def _decoded(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        latents_NChw = latents_BCTHW.transpose(1, 2).flatten(0, 1)
        latents_NChw = latents_NChw * self.net.std_C[:, None, None] + self.net.mean_C[:, None, None]
        parts = [self.net.shown(self.net.output(part)) for part in latents_NChw.split(_FRAMES_AT_ONCE)]
        return torch.cat(parts).unflatten(0, (len(latents_BCTHW), -1)).transpose(1, 2)


def build_codec(architecture: Mapping[str, Any]) -> Codec:
    """A codec of a saved `architecture`, whose tensors are still to be loaded (`load_state_dict`)."""
    known = dict(architecture)
    kind = known.pop("codec", None)
    if kind == "pixels":
        return PixelCodec(**known)
    if kind == "autoencoder":
        return LatentCodec(Autoencoder(AutoencoderConfig.checked(known, where="codec")))
    raise EchofmError(f"no codec {kind!r} is known here: update echofm")


def open_codec(spec: str | Path, *, size: int | None = None) -> Codec:
    """The codec that a command names.

    spec: `pixels`; a run of `echofm synth train latent`, its export or a hub id; `diffusers:FOLDER?grey_unit=127.5`
        (synth.latent.released).
    size: of the clips, rows and columns, which `pixels` and released networks do not state. Raises EchofmError on a
        codec that is none, or one for clips of another size.
    """
    kind, _, name = str(spec).partition(":")
    if str(spec) == "pixels" or kind == "diffusers":
        if size is None:
            raise EchofmError(f"codec {spec}: give the size of the clips")
        if kind == "diffusers":
            from synth.latent.released import open_released

            return LatentCodec(open_released(name, size=size))
        return PixelCodec(size=size)
    net = load_model(Path(spec) / "export" if (Path(spec) / "export").is_dir() else spec)
    if not isinstance(net, Autoencoder):
        raise EchofmError(
            f"{spec}: a model of kind {net.kind!r} is no codec; give a run of `echofm synth train latent`"
        )
    if size not in (None, net.config.size):
        raise EchofmError(
            f"the codec takes clips of {net.config.size} pixels a side, these have {size}; write shards anew"
        )
    return LatentCodec(net)
