"""The published feature network: appearance of each frame and motion between the two.

2B frames, the first B of them the pairs' first ones; H rows, W columns, C channels.
"""

from __future__ import annotations

import torch
from torch import nn

from synth.mafe.published.blocks import MotionBlock
from synth.mafe.published.config import PublishedConfig


class ConvStage(nn.Module):
    """3x3 convolutions with a PReLU for each channel."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(depth):
            layers += [nn.Conv2d(inputs if number == 0 else width, width, 3, padding=1), nn.PReLU(width)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The same rows and columns."""
        return self.conv(x_BCHW)


class CrossScaleEmbedding(nn.Module):
    """Tokens of stage 4 out of all three convolution stages: strides 2, 4, 8; one, two and four dilations."""

    def __init__(self, widths: tuple[int, ...], width: int, eps: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, widths[0], 3, stride=2 ** (level + 1), padding=dilation, dilation=dilation)
            for level, inputs in enumerate(reversed(widths))
            for dilation in range(1, 2**level + 1)
        )
        self.proj = nn.Conv2d(widths[0] * len(self.layers), width, 1)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        """(2B, H, W, C), channels last."""
        # From the coarsest stage to the finest, as the layers stand.
        sources = [stage for level, stage in enumerate(reversed(stages)) for _ in range(2**level)]
        parts = [layer(source) for layer, source in zip(self.layers, sources, strict=True)]
        return self.norm(self.proj(torch.cat(parts, 1)).permute(0, 2, 3, 1))


class StrideEmbedding(nn.Module):
    """Tokens of stage 5: a 3x3 convolution of stride 2."""

    def __init__(self, inputs: int, width: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(2B, H, W, C), channels last."""
        return self.norm(self.proj(x_BCHW).permute(0, 2, 3, 1))


class MotionFormer(nn.Module):
    """Five stages: /1, /2, /4 by convolutions, /8 and /16 by attention between the frames."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        widths, depths = config.embed_dims, config.depths
        self.block1 = ConvStage(3, widths[0], depths[0])
        for number in (2, 3):
            inputs, width = widths[number - 2 : number]
            halve = nn.Sequential(nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.PReLU(width))
            self.add_module(f"patch_embed{number}", halve)
            self.add_module(f"block{number}", ConvStage(width, width, depths[number - 1]))
        eps = config.patch_embed_norm_eps
        self.patch_embed4 = CrossScaleEmbedding(widths[:3], widths[3], eps)
        self.patch_embed5 = StrideEmbedding(widths[3], widths[4], eps)
        for number in (4, 5):
            self.add_module(f"block{number}", _blocks(config, number - 1))
            self.add_module(f"norm{number}", nn.LayerNorm(widths[number - 1], eps=config.block_norm_eps))

    def forward(self, frames_BCHW: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Appearance and motion of every stage, (2B, C, H, W); the first three have motion of no channels."""
        stages = [self.block1(frames_BCHW)]
        for number in (2, 3):
            halved = self.get_submodule(f"patch_embed{number}")(stages[-1])
            stages.append(self.get_submodule(f"block{number}")(halved))
        motions = [stage[:, :0] for stage in stages]
        x_BHWC = self.patch_embed4(stages)
        for number in (4, 5):
            if number == 5:
                x_BHWC = self.patch_embed5(stages[-1])
            moved = []
            for block in self.get_submodule(f"block{number}").children():
                x_BHWC, motion_BHWM = block(x_BHWC)
                moved.append(motion_BHWM)
            stages.append(self.get_submodule(f"norm{number}")(x_BHWC).permute(0, 3, 1, 2))
            motions.append(torch.cat(moved, -1).permute(0, 3, 1, 2))
        return stages, motions


def _blocks(config: PublishedConfig, stage: int) -> nn.ModuleList:
    """The blocks of a stage of attention; every second one looks through shifted windows."""
    return nn.ModuleList(
        MotionBlock(
            config.embed_dims[stage],
            config.motion_dims[stage],
            heads=config.num_heads[stage - 3],
            window=config.window,
            shift=config.window // 2 if number % 2 else 0,
            ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            eps=config.block_norm_eps,
        )
        for number in range(config.depths[stage])
    )
