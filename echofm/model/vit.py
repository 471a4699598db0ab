"""The video transformer and its phase projector: clips in, one vector per token, per time index and per clip out.

Shapes: B clips, C channels, T frames or time indices, H rows, W columns; N tokens, K visible ones; D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from timm.models._features import feature_take_indices
from torch import nn

from echofm.errors import EchofmError
from echofm.model.attention import Block, initialise, run_block, set_attention
from echofm.model.config import EncoderConfig
from echofm.model.tokens import Grid, SpaceTimePositions, TubeletEmbedding, grid_of
from echofm.saveable import Saveable
from echofm.schema import FrozenModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoding:
    """What an encoder says about clips.

    tokens_BND: one vector per tubelet, time outermost, then rows, then columns.
    phase_BTD: one vector per time index, summarised by the phase projector.
    video_BD: one vector per clip, the mean of its tokens.
    """

    tokens_BND: torch.Tensor
    phase_BTD: torch.Tensor
    video_BD: torch.Tensor


_ABOUT = """# An EchoFM encoder

Turns echocardiography clips into one vector per tubelet, per time index and per clip.

```python
import echofm

encoder = echofm.load_encoder("THIS FOLDER OR HUB ID")
encoding = encoder.encode(video_BCTHW)  # tokens_BND, phase_BTD, video_BD
```

Read by an independent implementation of arXiv 2410.23413, which is not affiliated with the paper's authors."""


class PhaseProjector(nn.Module):
    """Summarises the tokens of one time index: a class token of its own, one shared block, one norm."""

    def __init__(self, *, width: int, heads: int, mlp_ratio: float, norm_eps: float) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.block = Block(width, heads=heads, mlp_ratio=mlp_ratio, norm_eps=norm_eps)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, tokens_BTKD: torch.Tensor, *, grad_checkpointing: bool = False) -> torch.Tensor:
        """(B, T, D) from (B, T, tokens of a time index, D). Only the class token asks, so its row alone is computed."""
        clips, times = tokens_BTKD.shape[:2]
        flat = tokens_BTKD.flatten(0, 1)
        cls = self.cls.to(flat.dtype).expand(flat.shape[0], -1, -1)
        out = run_block(self.block, torch.cat([cls, flat], dim=1), cls, grad_checkpointing=grad_checkpointing)
        return self.norm(out[:, 0]).unflatten(0, (clips, times))


class VideoEncoder(Saveable):
    """Vision transformer over tubelets with separable learned positions (arXiv 2010.11929, 2205.09113).

    Takes clips of any frames and size that its tubelets tile; positions are interpolated where these are not the
    ones it was made for.
    """

    kind: ClassVar[str] = "encoder"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = EncoderConfig
    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.channels, self.patch, self.tubelet = config.channels, config.patch, config.tubelet
        self.phase_centre = config.phase_centre
        self.embed_dim = self.num_features = width
        self.num_classes = 0
        self.grad_checkpointing = False
        side = config.size // config.patch
        self.embed = TubeletEmbedding(channels=self.channels, tubelet=self.tubelet, patch=self.patch, width=width)
        self.positions = SpaceTimePositions(grid=Grid(config.times, side, side), width=width)
        self.cls = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        shape: dict[str, Any] = {"heads": config.heads, "mlp_ratio": config.mlp_ratio, "norm_eps": config.norm_eps}
        self.blocks = nn.ModuleList(Block(width, **shape) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.phase = PhaseProjector(width=width, **shape) if config.phase_projector else None
        initialise(self)

    def grid(self, video_BCTHW: torch.Tensor) -> Grid:
        """The token grid of a batch. Raises EchofmError on other axes, channels or untiled sizes."""
        if video_BCTHW.ndim != 5 or video_BCTHW.shape[1] != self.channels:
            raise EchofmError(
                f"clips of shape {tuple(video_BCTHW.shape)} do not fit a model of {self.channels} channels; "
                f"give (clips, {self.channels}, frames, rows, columns)"
            )
        return grid_of(video_BCTHW, tubelet=self.tubelet, patch=self.patch)

    def forward(self, video_BCTHW: torch.Tensor, visible_BK: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised tokens (B, N, D), or (B, K, D) of the visible ones alone, which then see each other alone."""
        return self._through(self._embedded(video_BCTHW, visible_BK))

    def single_times(self, shown_RCTHW: torch.Tensor, ids_RK: torch.Tensor, *, grid: Grid) -> torch.Tensor:
        """Normalised tokens (R, K, D) of single time indices.

        shown_RCTHW: the frames of one time index. ids_RK: ids in the clip's whole `grid`, all of that time index.
        """
        position_RK = ids_RK % grid.space
        x = self._with_class(self.embed(shown_RCTHW, position_RK) + self.positions(grid, ids_RK))
        return self._through(x)

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        """Tokens, phase and clip vectors of whole clips; values in [0, 1]."""
        tokens_BND = self(video_BCTHW)
        return Encoding(
            tokens_BND=tokens_BND,
            phase_BTD=self.summarise(tokens_BND, times=self.grid(video_BCTHW).time),
            video_BD=tokens_BND.mean(dim=1),
        )

    def summarise(self, tokens_BKD: torch.Tensor, *, times: int) -> torch.Tensor:
        """Phase vectors (B, T, D) of tokens that belong in equal numbers to `times` time indices."""
        tokens_BTKD = tokens_BKD.unflatten(1, (times, -1))
        if self.phase is None:
            phase_BTD = tokens_BTKD.mean(2)
        else:
            phase_BTD = self.phase(tokens_BTKD, grad_checkpointing=self.grad_checkpointing)
        return phase_BTD - self.phase_centre * phase_BTD.mean(1, keepdim=True) if self.phase_centre else phase_BTD

    def forward_features(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """timm's name for `forward` on whole clips."""
        return self(video_BCTHW)

    def forward_intermediates(
        self,
        video_BCTHW: torch.Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCTHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Features after the blocks `indices` (all if None, the last n if an int), as in timm's image models.

        output_fmt "NCTHW" gives maps (B, D, T, rows, columns), "NLC" tokens (B, N, D). With `return_prefix_tokens`
        each item is (features, class token (B, 1, D)). Returns (final tokens, list), or the list alone.
        """
        if output_fmt not in ("NCTHW", "NLC"):
            raise EchofmError(f"no output format {output_fmt!r}; choose 'NCTHW' or 'NLC'")
        taken, last = feature_take_indices(len(self.blocks), indices)
        grid = self.grid(video_BCTHW)
        x, features = self._embedded(video_BCTHW), []
        for index, block in enumerate(self.blocks[: last + 1] if stop_early else self.blocks):
            x = run_block(block, x, grad_checkpointing=self.grad_checkpointing)
            if index in taken:
                rows = self.norm(x) if norm else x
                tokens = rows[:, 1:]
                if output_fmt == "NCTHW":
                    tokens = tokens.transpose(1, 2).unflatten(2, tuple(grid))
                features.append((tokens, rows[:, :1]) if return_prefix_tokens else tokens)
        return features if intermediates_only else (self.norm(x)[:, 1:], features)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep no activation inside the blocks for the backward pass: less memory, one more forward pass."""
        self.grad_checkpointing = enable

    def set_attention(self, backend: str) -> None:
        """Choose "sdpa" or "xformers"; raises EchofmError where it is unknown or not installed."""
        set_attention(self.modules(), backend)

    def _embedded(self, video_BCTHW: torch.Tensor, visible_BK: torch.Tensor | None = None) -> torch.Tensor:
        """The rows that enter the first block: class token, then tokens with their positions."""
        grid = self.grid(video_BCTHW)
        return self._with_class(self.embed(video_BCTHW, visible_BK) + self.positions(grid, visible_BK))

    def _with_class(self, tokens: torch.Tensor) -> torch.Tensor:
        cls = (self.cls + self.positions.cls).to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return torch.cat([cls, tokens], dim=1)

    def _through(self, x: torch.Tensor) -> torch.Tensor:
        """The blocks and the last norm, without the class token."""
        for block in self.blocks:
            x = run_block(block, x, grad_checkpointing=self.grad_checkpointing)
        return self.norm(x)[:, 1:]
