"""Codec: clips to what a generator works in, and back; always frozen.

Shapes: B clips, C channels, T frames, H rows, W columns of pixels; of latents C channels and h x w places.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.errors import EchofmError
from echofm.hub import load_model
from synth.latent.autoencoder import Autoencoder
from synth.latent.config import AutoencoderConfig

if TYPE_CHECKING:
    from synth.mafe.network import Mafe

_FRAMES_AT_ONCE = 64


class Codec(nn.Module):
    """What a generator works in: latents of an autoencoder, or pixels.

    contract: of clips with one frame; a codec takes any number of frames.
    scale: pixels a side for each latent. channels: of the latents. shows: whether it decodes to pictures.
    """

    contract: InputContract
    scale: int
    channels: int
    shows: ClassVar[bool] = True
    """Whether what it decodes to are pictures."""

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


class MotionCodec(Codec):
    """Not clips but how they move: the numbers of a motion network at each frame, standardised by number.

    frames: of the windows that it sees as a whole. Each frame has the nearest of the network's times. It decodes to
    these numbers, (B, D, T, 1, 1), no pictures. What was encoded once is remembered.
    """

    scale = 1
    shows = False
    mean_C: torch.Tensor
    std_C: torch.Tensor

    def __init__(self, net: Mafe, *, frames: int) -> None:
        super().__init__()
        self.net, self.frames = net.eval().requires_grad_(False), frames
        self.contract = net.config.contract.model_copy(update={"frames": 1, "frame_rate_hz": None})
        heads = net.config.heads
        # Of each cell: right and down, by each head, since the fullest frame and to the next time.
        self.channels = heads.cells**2 * heads.heads * 4
        self.register_buffer("mean_C", torch.zeros(self.channels))
        self.register_buffer("std_C", torch.ones(self.channels))
        self._known: dict[bytes, torch.Tensor] = {}

    @property
    def architecture(self) -> dict[str, Any]:
        """The motion network's."""
        return {"codec": "motion", "network": self.net.architecture, "frames": self.frames}

    def latent_shape(self, frames: int) -> tuple[int, int, int, int]:
        return self.channels, frames, 1, 1

    def standardise(self, video_BCTHW: torch.Tensor) -> None:
        """By these training windows."""
        numbers_BCT11 = self._encoded(video_BCTHW)
        self.mean_C.copy_(numbers_BCT11.mean((0, 2, 3, 4)))
        self.std_C.copy_(numbers_BCT11.std((0, 2, 3, 4)).clamp(min=1e-3))
        self._known.clear()

    def motion_BND(self, numbers_BCT11: torch.Tensor, times: int) -> torch.Tensor:
        """The condition `motion` of what was decoded: at so many times."""
        frame_N = ((torch.arange(times) + 0.5) * (numbers_BCT11.shape[2] / times)).long()
        return numbers_BCT11[:, :, frame_N, 0, 0].transpose(1, 2)

    def decode(self, latents_BCTHW: torch.Tensor) -> torch.Tensor:
        """The numbers; no clips."""
        return latents_BCTHW * self.std_C.view(-1, 1, 1, 1) + self.mean_C.view(-1, 1, 1, 1)

    @torch.no_grad()
    def _encoded(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        if video_BCTHW.shape[2] != self.frames:
            raise EchofmError(f"windows of {video_BCTHW.shape[2]} frames, the motion codec sees {self.frames}")
        return torch.cat([self._one(video) for video in video_BCTHW.split(1)])

    def _one(self, video: torch.Tensor) -> torch.Tensor:
        key = hashlib.blake2b(video.cpu().numpy().tobytes(), digest_size=16).digest()
        if key not in self._known:
            from synth.mafe.extract import motion_appearance

            seen = self.net.config.encoder.frames
            frame_F = ((torch.arange(seen) + 0.5) * (self.frames / seen)).long()
            motion_BTD = motion_appearance(self.net, video[:, :, frame_F]).motion_BTRCD.flatten(2)
            frame_T = ((torch.arange(self.frames) + 0.5) * (motion_BTD.shape[1] / self.frames)).long()
            self._known[key] = motion_BTD[:, frame_T].transpose(1, 2)[..., None, None].cpu()
        mean, std = self.mean_C.view(-1, 1, 1, 1), self.std_C.view(-1, 1, 1, 1)
        return (self._known[key].to(video.device) - mean) / std


def build_codec(architecture: Mapping[str, Any]) -> Codec:
    """A codec of a saved `architecture`, whose tensors are still to be loaded (`load_state_dict`)."""
    known = dict(architecture)
    kind = known.pop("codec", None)
    if kind == "pixels":
        return PixelCodec(**known)
    if kind == "autoencoder":
        return LatentCodec(Autoencoder(AutoencoderConfig.checked(known, where="codec")))
    if kind == "motion":
        from synth.mafe.network import Mafe

        return MotionCodec(Mafe.build(known["network"], {}), frames=known["frames"])
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
