"""Codec: clips to what a generator works in, and back; always frozen.

Shapes: B clips, C channels, T frames, H rows, W columns of pixels; of latents C channels and h x w places.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.errors import EchofmError


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
        """Clips (B, 1, T, H, W) in [0, 1] of latents (B, C, T, h, w). Raises EchofmError on latents of another shape."""
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


def build_codec(architecture: Mapping[str, Any]) -> Codec:
    """A codec of a saved `architecture`, whose tensors are still to be loaded (`load_state_dict`)."""
    known = dict(architecture)
    if known.pop("codec", None) == "pixels":
        return PixelCodec(**known)
    raise EchofmError(f"no codec {architecture.get('codec')!r} is known here: update echofm")


def open_codec(spec: str, *, size: int) -> Codec:
    """The codec that a command names: `pixels`. size: of the clips, for `pixels`."""
    if spec == "pixels":
        return PixelCodec(size=size)
    raise EchofmError(f"no codec {spec!r}; give pixels, or the run of `echofm synth train latent`")
