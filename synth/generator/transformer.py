"""Space-time diffusion transformer: latents of any size and length, conditioned by AdaLN, tokens and channels.

After arXiv 2212.09748 (AdaLN-zero) and 2401.03048 (attention over space, then over time). Shapes: B clips, T frames, S
places of a frame, N tokens of the condition, D width; C, H, W of the latents.
"""

from __future__ import annotations

import math

import torch
from timm.layers import GELUTanh, Mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

from echofm.errors import EchofmError
from echofm.model.attention import Attention, initialise
from synth.conditioner import Encoded
from synth.generator.config import NetworkConfig
from synth.generator.control import ControlBranch

_EPS = 1e-6


class Transformer(nn.Module):
    """(noisy latents, time, interval, condition) to what the path predicts, of the latents' shape.

    channels: of the latents. extra: channels of the condition. two_times: it is told an interval too. tokens: it
    is given some. control: channels of a branch, 0: none.
    """

    def __init__(
        self, config: NetworkConfig, *, channels: int, extra: int, two_times: bool, tokens: bool, control: int = 0
    ) -> None:
        super().__init__()
        if config.width % config.heads:
            raise EchofmError(f"a width of {config.width} is not split by {config.heads} heads")
        self.config, self.channels, width = config, channels, config.width
        self.embed = nn.Linear((channels + extra) * config.patch**2, width)
        self.time = TimeEmbedding(width, scale=time_scale(two_times=two_times))
        self.interval = TimeEmbedding(width, scale=time_scale(two_times=two_times)) if two_times else None
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        blocks = [Block(config, tokens=tokens) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, eps=_EPS, elementwise_affine=False)
        last = nn.Linear(width, 2 * width)
        self.last = nn.Sequential(nn.SiLU(), last)
        self.out = nn.Linear(width, channels * config.patch**2)
        initialise(self)
        # AdaLN-zero: every block begins as the identity, the output as zero.
        for layer in (last, self.out, *(each for block in blocks for each in block.zeros)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        numbers = control * config.patch**2
        self.control = ControlBranch(blocks, width=width, numbers=numbers) if control else None

    def forward(
        self,
        noisy_BCTHW: torch.Tensor,
        time_B: torch.Tensor,
        interval_B: torch.Tensor,
        condition: Encoded,
        *,
        hidden: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The output, and the tokens (B, T, S, D) after block `hidden`."""
        patch, frames = self.config.patch, noisy_BCTHW.shape[2]
        extra = condition.channels_BCTHW
        shown = noisy_BCTHW if extra is None else torch.cat([noisy_BCTHW, extra], 1)
        rows, columns = (side // patch for side in noisy_BCTHW.shape[3:])
        x_BTSD = self.embed(_cut(shown, patch)) + self._positions(frames, rows, columns, noisy_BCTHW.device)
        c_BTD = self._vector(time_B, interval_B, condition.vector_BTD, frames)
        kept, added = None, []
        if self.control is not None and condition.control_BCTHW is not None:
            added = self.control(x_BTSD, c_BTD, condition.tokens_BND, _cut(condition.control_BCTHW, patch))
        for number, block in enumerate(self.blocks):
            if self.config.grad_checkpointing and torch.is_grad_enabled():
                x_BTSD = checkpoint(block, x_BTSD, c_BTD, condition.tokens_BND, use_reentrant=False)
            else:
                x_BTSD = block(x_BTSD, c_BTD, condition.tokens_BND)
            x_BTSD = x_BTSD + added[number] if number < len(added) else x_BTSD
            kept = x_BTSD if number == hidden else kept
        shift, scale = self.last(c_BTD)[:, :, None].chunk(2, -1)
        out_BTSD = self.out(self.norm(x_BTSD) * (1 + scale) + shift)
        return _joined(out_BTSD, patch, rows, columns), kept

    def _vector(
        self, time_B: torch.Tensor, interval_B: torch.Tensor, vector_BTD: torch.Tensor | None, frames: int
    ) -> torch.Tensor:
        c_BD = self.time(time_B)
        if self.interval is not None:
            c_BD = c_BD + self.interval(interval_B)
        c_BTD = c_BD[:, None].expand(-1, frames, -1)
        # Through two layers, so that fields act on one another: how small a ventricle is at a phase depends on the EF.
        return self.mix(c_BTD if vector_BTD is None else c_BTD + vector_BTD)

    def _positions(self, frames: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
        half = self.config.width // 2
        row_RD, column_CD = (waves(torch.arange(side, device=device), half) for side in (rows, columns))
        grid = torch.cat([row_RD[:, None].expand(-1, columns, -1), column_CD.expand(rows, -1, -1)], -1).flatten(0, 1)
        return waves(torch.arange(frames, device=device), self.config.width)[:, None] + grid


class Block(nn.Module):
    """Attention over space, over time (or both at once), to the condition's tokens, then a two-layer network."""

    def __init__(self, config: NetworkConfig, *, tokens: bool) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.full = config.attention == "full"
        self.norm = nn.LayerNorm(width, eps=_EPS, elementwise_affine=False)
        self.space = Attention(width, heads=heads)
        self.over_time = None if self.full else Attention(width, heads=heads)
        self.cross = CrossAttention(width, heads=heads) if tokens else None
        self.mlp = Mlp(width, hidden_features=4 * width, act_layer=GELUTanh)
        last = nn.Linear(width, (6 if self.full else 9) * width)
        self.modulate = nn.Sequential(nn.SiLU(), last)
        # Zero at first, each the last layer of its branch.
        self.zeros = [last, *([self.cross.proj] if self.cross else [])]

    def forward(self, x_BTSD: torch.Tensor, c_BTD: torch.Tensor, tokens_BND: torch.Tensor | None) -> torch.Tensor:
        parts = self.modulate(c_BTD)[:, :, None].unflatten(-1, (-1, 3, x_BTSD.shape[-1])).unbind(3)
        shift, scale, gate = parts[0].unbind(3)
        inside = self.norm(x_BTSD) * (1 + scale) + shift
        x_BTSD = x_BTSD + gate * _within(self.space, inside, frames=inside.shape[1] if self.full else 1)
        if self.over_time is not None:
            shift, scale, gate = parts[1].unbind(3)
            inside = (self.norm(x_BTSD) * (1 + scale) + shift).transpose(1, 2)
            x_BTSD = x_BTSD + gate * _within(self.over_time, inside, frames=1).transpose(1, 2)
        if self.cross is not None and tokens_BND is not None:
            x_BTSD = x_BTSD + self.cross(self.norm(x_BTSD).flatten(1, 2), tokens_BND).view_as(x_BTSD)
        shift, scale, gate = parts[-1].unbind(3)
        return x_BTSD + gate * self.mlp(self.norm(x_BTSD) * (1 + scale) + shift)


def _within(attention: nn.Module, x_BTSD: torch.Tensor, *, frames: int) -> torch.Tensor:
    """Attention among the places of so many frames: 1, or all."""
    return attention(x_BTSD.reshape(-1, frames * x_BTSD.shape[2], x_BTSD.shape[3])).view_as(x_BTSD)


class CrossAttention(nn.Module):
    """Rows attend to tokens, of which there must be several: the weights over one are always 1."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, x_BMD: torch.Tensor, tokens_BND: torch.Tensor) -> torch.Tensor:
        assert tokens_BND.shape[1] > 1, "one token makes cross-attention a constant"
        q = self.q(x_BMD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(self.norm(tokens_BND)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TimeEmbedding(nn.Module):
    """A time in [0, 1], `scale` times as large, through two layers.

    Published descendants feed it unscaled, so that half of the waves hardly move.
    """

    def __init__(self, width: int, *, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time_B: torch.Tensor) -> torch.Tensor:
        return self.layers(waves(self.scale * time_B, 256))


def time_scale(*, two_times: bool) -> float:
    """1,000, as the waves are made for; 10 for a network of mean velocity. It learns from its own change with time,
    which waves so fast make large: its loss then leaps (benchmarks/results-generators.md)."""
    return 10 if two_times else 1000


def waves(position_N: torch.Tensor, width: int) -> torch.Tensor:
    """(N, width) sines and cosines, of wavelengths from 2 pi to 2 pi x 10,000: arXiv 1706.03762, section 3.5."""
    rate = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=position_N.device) / (width // 2))
    angle = position_N[:, None].float() * rate
    return torch.cat([angle.sin(), angle.cos()], -1)


def _cut(x_BCTHW: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, T, S, C * patch * patch)."""
    axes = x_BCTHW.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))
    return axes.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)


def _joined(x_BTSD: torch.Tensor, patch: int, rows: int, columns: int) -> torch.Tensor:
    """Back to (B, C, T, H, W)."""
    axes = x_BTSD.unflatten(3, (-1, patch, patch)).unflatten(2, (rows, columns))
    return axes.permute(0, 4, 1, 2, 5, 3, 6).flatten(5).flatten(3, 4)
