"""Autoencoder: diffusers' AutoencoderKL (Rombach et al. 2022, arXiv 2112.10752) with its own input scaling.

Shapes: N frames, C channels, H rows, W columns of pixels; of latents C channels and h x w places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from echofm.saveable import Saveable
from echofm.schema import FrozenModel
from synth.latent.config import AutoencoderConfig

# Of the untrained posterior. At 0, noise as large as the latents, the first hundred steps go into making it small.
_FIRST_LOGVAR = -6.0
_ABOUT = """# An autoencoder of echocardiography frames

Turns clips into latents, standardised by channel, and back.

```python
from synth.latent.codec import open_codec

codec = open_codec("THIS FOLDER")
latents_BCTHW = codec.encode(video_BCTHW)
video_BCTHW = codec.decode(latents_BCTHW)
```"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstructed:
    """seen_NCHW: the frames as the network saw them; output_NCHW: the same reconstructed, in the same units.

    mean_NChw, logvar_NChw: of the latents' posterior; logvar in [-30, 20].
    """

    seen_NCHW: torch.Tensor
    output_NCHW: torch.Tensor
    mean_NChw: torch.Tensor
    logvar_NChw: torch.Tensor


class Autoencoder(Saveable):
    """A variational autoencoder of frames.

    mean_C, std_C: of its latents over training clips, by channel; 0 and 1 until they are measured.
    """

    kind: ClassVar[str] = "autoencoder"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = AutoencoderConfig
    config: AutoencoderConfig
    mean_C: torch.Tensor
    std_C: torch.Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = _diffusers_network(config)
        with torch.no_grad():
            self.net.quant_conv.bias[config.latent_channels :] = _FIRST_LOGVAR
        self.register_buffer("mean_C", torch.zeros(config.latent_channels))
        self.register_buffer("std_C", torch.ones(config.latent_channels))

    @property
    def last_weight(self) -> nn.Parameter:
        """Of the decoder's last layer, where the adversary's gradient is weighed."""
        return self.net.decoder.conv_out.weight

    def forward(self, frames_NCHW: torch.Tensor, noise_NChw: torch.Tensor) -> Reconstructed:
        """Reconstruct frames in [0, 1] from a draw of their posterior, mean + std * noise."""
        seen_NCHW = self.seen(frames_NCHW)
        mean, logvar = self.posterior(seen_NCHW)
        output_NCHW = self.output(mean + (logvar / 2).exp() * noise_NChw)
        return Reconstructed(seen_NCHW=seen_NCHW, output_NCHW=output_NCHW, mean_NChw=mean, logvar_NChw=logvar)

    def seen(self, frames_NCHW: torch.Tensor) -> torch.Tensor:
        """Frames in [0, 1] in the network's units and channels."""
        return (frames_NCHW * (255 / self.config.grey_unit) - 1).expand(-1, self.config.grey_as, -1, -1)

    def shown(self, output_NCHW: torch.Tensor) -> torch.Tensor:
        """The other way: frames (N, 1, H, W), about [0, 1], of what the network puts out."""
        return (output_NCHW.mean(1, keepdim=True) + 1) * (self.config.grey_unit / 255)

    def posterior(self, seen_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance (N, C, h, w) of the latents, the latter clamped to [-30, 20]."""
        found = self.net.encode(F.pixel_unshuffle(seen_NCHW, self.config.patch)).latent_dist
        # Not in bfloat16, where half of the divergence's digits are lost.
        return found.mean.float(), found.logvar.float()

    def output(self, latents_NChw: torch.Tensor) -> torch.Tensor:
        """Frames in the network's units of latents that are not standardised."""
        return F.pixel_shuffle(self.net.decode(latents_NChw).sample.float(), self.config.patch)


def _diffusers_network(config: AutoencoderConfig) -> Any:
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    except ImportError:
        raise EchofmError("an autoencoder needs diffusers: pip install 'echofm[synth]'") from None
    channels, levels = config.grey_as * config.patch**2, len(config.widths)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=config.size,
        mid_block_add_attention=config.middle_attention,
    )
