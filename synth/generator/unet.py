"""diffusers' space-time U-Net, as EchoNet-Synthetic (arXiv 2406.00808) and MCDM (2512.09418) configure it.

Shapes: B clips, C channels, T frames, H rows, W columns of latents; N tokens of the condition, D numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from echofm.errors import EchofmError
from synth.conditioner import Encoded
from synth.generator.config import NetworkConfig
from synth.generator.transformer import TimeEmbedding, time_scale, waves

# Three halvings.
_MULTIPLE = 8


class VideoUnet(nn.Module):
    """As `Transformer`: what a condition says of each frame is one token for each, beside the other tokens.

    Sides that three halvings do not divide are padded by the border's values, and cut again; one that fits stays.
    """

    def __init__(self, config: NetworkConfig, *, channels: int, extra: int, two_times: bool) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.net = unet(unet_config(width, channels=channels, extra=extra, layers=config.depth, cross=width))
        self.scale = time_scale(two_times=two_times)
        self.interval = TimeEmbedding(width, scale=self.scale) if two_times else None
        self.null = nn.Parameter(0.02 * torch.randn(2, width))
        if config.grad_checkpointing:
            self.net.enable_gradient_checkpointing()

    def forward(
        self,
        noisy_BCTHW: torch.Tensor,
        time_B: torch.Tensor,
        interval_B: torch.Tensor,
        condition: Encoded,
        *,
        hidden: int | None = None,
    ) -> tuple[torch.Tensor, None]:
        """The output; it has no hidden tokens to align."""
        if hidden is not None:
            raise EchofmError("the U-Net has no tokens to align: --repa.weight 0, or --network.kind transformer")
        extra = condition.channels_BCTHW
        shown = noisy_BCTHW if extra is None else torch.cat([noisy_BCTHW, extra], 1)
        output = self.net(
            padded(shown).transpose(1, 2),
            self.scale * time_B,
            encoder_hidden_states=self._tokens(condition, interval_B, noisy_BCTHW.shape[2]),
            added_time_ids=torch.zeros(len(noisy_BCTHW), 1, device=noisy_BCTHW.device),
        ).sample
        return cropped(output.transpose(1, 2), noisy_BCTHW.shape[3:]), None

    def _tokens(self, condition: Encoded, interval_B: torch.Tensor, frames: int) -> torch.Tensor:
        # Never one token alone: cross-attention could not tell it from a constant.
        null_BND = self.null.expand(len(interval_B), -1, -1)
        tokens = [null_BND if self.interval is None else null_BND + self.interval(interval_B)[:, None]]
        if condition.vector_BTD is not None:
            tokens.append(condition.vector_BTD + waves(torch.arange(frames, device=null_BND.device), null_BND.shape[2]))
        if condition.tokens_BND is not None:
            tokens.append(condition.tokens_BND)
        return torch.cat(tokens, 1)


def unet_config(width: int, *, channels: int, extra: int, layers: int, cross: int, frames: int = 64) -> dict[str, Any]:
    """diffusers' settings at a width (published: 128); cross: numbers of a token of the condition."""
    down, cross_down = "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"
    up, cross_up = "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"
    widths = [width, 2 * width, 2 * width, 4 * width]
    return {
        "in_channels": channels + extra,
        "out_channels": channels,
        "down_block_types": [cross_down, cross_down, cross_down, down],
        "up_block_types": [up, cross_up, cross_up, cross_up],
        "block_out_channels": widths,
        "num_attention_heads": [each // 16 for each in widths],
        "layers_per_block": layers,
        "cross_attention_dim": cross,
        "transformer_layers_per_block": 1,
        "addition_time_embed_dim": 1,
        "projection_class_embeddings_input_dim": 1,
        "num_frames": frames,
    }


def unet(config: dict[str, Any]) -> Any:
    """Fresh, of a configuration. Raises EchofmError where diffusers is not installed."""
    return _unet_class()(**config)


def load_unet(folder: str | Path) -> Any:
    """A released model's, from its diffusers folder (config.json, diffusion_pytorch_model.safetensors; no pickle).

    Raises EchofmError where there is none.
    """
    try:
        return _unet_class().from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
    except OSError:
        raise EchofmError(
            "no U-Net: give a diffusers folder with config.json and diffusion_pytorch_model.safetensors"
        ) from None


def padded(x_BCTHW: torch.Tensor) -> torch.Tensor:
    """Sides up to the next multiple of 8, by the border's values, as much before as after."""
    rows, columns = (-side % _MULTIPLE for side in x_BCTHW.shape[3:])
    if not rows and not columns:
        return x_BCTHW
    around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2, 0, 0)
    return F.pad(x_BCTHW, around, mode="replicate")


def cropped(x_BCTHW: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The other way."""
    rows, columns = ((-side % _MULTIPLE) // 2 for side in size)
    return x_BCTHW[..., rows : rows + size[0], columns : columns + size[1]]


def _unet_class() -> Any:
    try:
        from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    except ImportError:
        raise EchofmError("the U-Net is diffusers': pip install 'echofm[synth]'") from None
    return UNetSpatioTemporalConditionModel
