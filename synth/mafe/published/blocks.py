"""Blocks of the published network: attention from one frame to the other, and the motion that it tells.

2B maps, the first B of the first frames and then those of the second; H rows, W columns, C channels, M motion channels,
N windows, L positions of a window, J heads.
"""

from __future__ import annotations

import torch
from torch import nn

from synth.mafe.published.windows import Windows
from synth.mafe.warp import places


class InterFrameAttention(nn.Module):
    """Queries in one frame, keys and values in the same window of the other.

    Motion is where the attention looks less where it stands, embedded by head: motion_proj(a @ embed(c) - embed(c)).
    """

    def __init__(self, width: int, motion: int, *, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=qkv_bias)
        self.kv = nn.Linear(width, 2 * width, bias=qkv_bias)
        self.cor_embed = nn.Linear(2, motion, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.motion_proj = nn.Linear(motion, motion)

    def forward(
        self, own_NLC: torch.Tensor, place_NL2: torch.Tensor, mask_NLL: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, L, C) and motion (N, L, M); the first half of the windows are of the first frames."""
        other_NLC = own_NLC.roll(len(own_NLC) // 2, 0)
        q_NJLD = self._heads(self.q(own_NLC))
        k_NJLD, v_NJLD = (self._heads(part) for part in self.kv(other_NLC).chunk(2, -1))
        logits_NJLL = q_NJLD @ k_NJLD.mT * q_NJLD.shape[-1] ** -0.5
        if mask_NLL is not None:
            by_map = logits_NJLL.unflatten(0, (-1, len(mask_NLL))) + mask_NLL[:, None]
            logits_NJLL = by_map.flatten(0, 1)
        attention_NJLL = logits_NJLL.softmax(-1)
        place_NJLD = self._heads(self.cor_embed(place_NL2))
        moved_NJLD = attention_NJLL @ place_NJLD - place_NJLD
        return self.proj(_flat(attention_NJLL @ v_NJLD)), self.motion_proj(_flat(moved_NJLD))

    def _heads(self, x_NLC: torch.Tensor) -> torch.Tensor:
        return x_NLC.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DepthwiseMlp(nn.Module):
    """Linear, depthwise 3x3, GELU, linear."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(ratio * width, ratio * width, 3, padding=1, groups=ratio * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        hidden_BCHW = self.fc1(x_BHWC).permute(0, 3, 1, 2)
        mixed_BHWC = self.dwconv.dwconv(hidden_BCHW).permute(0, 2, 3, 1)  # type: ignore[operator]
        return self.fc2(self.act(mixed_BHWC))


class MotionBlock(nn.Module):
    """x := LN1(x) + attention(LN1(x)); x := x + MLP(LN2(x)). The un-normed x is not carried over the attention."""

    def __init__(
        self, width: int, motion: int, *, heads: int, window: int, shift: int, ratio: int, qkv_bias: bool, eps: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = InterFrameAttention(width, motion, heads=heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = DepthwiseMlp(width, ratio)

    def forward(self, x_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of 2B frames -> maps and motion, (2B, H, W, C) and (2B, H, W, M)."""
        maps, height, width = x_BHWC.shape[:3]
        windows = Windows(height, width, self.window, self.shift)
        # Padded before the norm: the padding becomes the norm's bias.
        own_NLC = windows.cut(self.norm1(windows.pad(x_BHWC)))
        place_NL2 = windows.cut(windows.pad(places(height, width, x_BHWC).expand(maps, -1, -1, -1)))
        seen_NLC, motion_NLM = self.attn(own_NLC, place_NL2, windows.mask(x_BHWC.device))
        x_BHWC = windows.join(own_NLC + seen_NLC)
        return x_BHWC + self.mlp(self.norm2(x_BHWC)), windows.join(motion_NLM)


def _flat(x_NJLD: torch.Tensor) -> torch.Tensor:
    return x_NJLD.transpose(1, 2).flatten(2)
