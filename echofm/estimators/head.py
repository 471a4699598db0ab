"""Heads that turn tokens into a map of classes, and their training on frozen tokens.

B frames, R rows and C columns of tokens, D features, K classes, H rows, W columns of pixels.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from echofm.clip import NOT_ANNOTATED
from echofm.engine.config import half_cosine
from echofm.metric.overlap import mean_dice

HeadKind = Literal["linear", "upsampling"]


class LinearHead(nn.Module):
    """One linear layer, the same for every token: it predicts the classes of the pixels that the token covers.

    Where the tokens do not tile the frame it predicts one class a token, enlarged bilinearly.
    """

    def __init__(self, *, width: int, classes: int, grid: tuple[int, int], size: int) -> None:
        super().__init__()
        self.size = size
        self.patch = size // grid[0] if grid[0] == grid[1] and size % grid[0] == 0 else 1
        self.layer = nn.Linear(width, classes * self.patch**2)

    def forward(self, tokens_BRCD: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W)."""
        maps = F.pixel_shuffle(self.layer(tokens_BRCD).permute(0, 3, 1, 2), self.patch)
        if maps.shape[-2:] == (self.size, self.size):
            return maps
        return F.interpolate(maps, size=(self.size, self.size), mode="bilinear", align_corners=False)


class UpsamplingHead(nn.Module):
    """A 1x1 convolution, then per doubling of the size a bilinear enlargement and a 3x3 convolution; 64 channels at
    first, halved at each doubling, 16 at least."""

    def __init__(self, *, width: int, classes: int, grid: tuple[int, int], size: int) -> None:
        super().__init__()
        doublings = max(1, math.ceil(math.log2(size / min(grid))))
        widths = [max(16, 64 >> max(0, step - 1)) for step in range(doublings + 1)]
        self.sizes = [
            tuple(round(side * (size / side) ** ((step + 1) / doublings)) for side in grid) for step in range(doublings)
        ]
        self.enter = nn.Conv2d(width, widths[0], 1)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.GELU())
            for before, after in itertools.pairwise(widths)
        )
        self.leave = nn.Conv2d(widths[-1], classes, 1)

    def forward(self, tokens_BRCD: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W)."""
        maps = self.enter(tokens_BRCD.permute(0, 3, 1, 2))
        for size, step in zip(self.sizes, self.steps):
            maps = step(F.interpolate(maps, size=size, mode="bilinear", align_corners=False))
        return self.leave(maps)


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": LinearHead, "upsampling": UpsamplingHead}
# The schedule's highest.
LEARNING_RATES = {"linear": 1e-2, "upsampling": 2e-3}


class PlacedHead(nn.Module):
    """A head whose logits are added to a bias for each class and pixel.

    The bias begins at the logarithm of the class's share there among the training frames, so that a head of blind
    tokens says each pixel's commonest class over all views, and what a head adds to it comes from the tokens.
    """

    def __init__(self, head: nn.Module, mask_FHW: npt.NDArray[np.uint8], *, classes: int) -> None:
        super().__init__()
        counts_KHW = np.stack([(mask_FHW == number).sum(0) for number in range(classes)]) + 1.0
        self.head = head
        self.bias_KHW = nn.Parameter(torch.from_numpy(np.log(counts_KHW / counts_KHW.sum(0))).float())

    def forward(self, tokens_BRCD: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W)."""
        return self.head(tokens_BRCD) + self.bias_KHW


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """A head and how it was chosen. merit: mean Dice over classes and validation frames."""

    head: nn.Module
    mean_D: torch.Tensor
    scale_D: torch.Tensor
    weight_decay: float
    steps: int
    merit: float

    def predict(self, tokens_FRCD: npt.NDArray, *, batch: int = 32) -> npt.NDArray[np.uint8]:
        """(F, H, W) class numbers."""
        self.head.eval()
        with torch.inference_mode():
            parts = [
                self.head(self._scaled(tokens_FRCD[first : first + batch])).argmax(1).byte().numpy()
                for first in range(0, len(tokens_FRCD), batch)
            ]
        return np.concatenate(parts)

    def _scaled(self, tokens: npt.NDArray) -> torch.Tensor:
        return (torch.from_numpy(np.asarray(tokens, np.float32)) - self.mean_D) / self.scale_D


def fit_head(
    kind: HeadKind,
    train: tuple[npt.NDArray, npt.NDArray[np.uint8]],
    val: tuple[npt.NDArray, npt.NDArray[np.uint8]],
    *,
    classes: int,
    weight_decays: tuple[float, ...] = (1e-4, 1e-2, 1.0),
    steps: int = 600,
    batch: int = 16,
    seed: int = 0,
) -> FittedHead:
    """Train a head and a bias for each place on frozen tokens: cross-entropy and soft Dice, AdamW, a cosine schedule.

    train, val: tokens (F, R, C, D) and class maps (F, H, W), 255 where not annotated. Weight decay and the number of
    steps (a tenth of `steps` at a time) are those of the best mean Dice on the validation frames.
    """
    tokens_FRCD, mask_FHW = train
    flat = tokens_FRCD.reshape(-1, tokens_FRCD.shape[-1]).astype(np.float32)
    mean_D, scale_D = torch.from_numpy(flat.mean(0)), torch.from_numpy(flat.std(0) + 1e-6)
    shape = {"width": tokens_FRCD.shape[-1], "grid": tokens_FRCD.shape[1:3], "size": mask_FHW.shape[-1]}
    peak = LEARNING_RATES[kind]
    best: FittedHead | None = None
    for weight_decay in weight_decays:
        # The same start and order of frames for each: weight decay alone decides.
        torch.manual_seed(seed)
        order = np.random.default_rng(seed)
        head = PlacedHead(HEADS[kind](classes=classes, **shape), mask_FHW, classes=classes)
        optimizer = torch.optim.AdamW(head.head.parameters(), lr=peak, weight_decay=weight_decay)
        optimizer.add_param_group({"params": [head.bias_KHW], "weight_decay": 0.0})
        for step in range(1, steps + 1):
            chosen = order.integers(len(mask_FHW), size=batch)
            inputs = (torch.from_numpy(tokens_FRCD[chosen].astype(np.float32)) - mean_D) / scale_D
            for group in optimizer.param_groups:
                group["lr"] = peak * half_cosine((step - 1) / steps)
            head.train()
            loss = segmentation_loss(head(inputs), torch.from_numpy(mask_FHW[chosen]).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % max(1, steps // 10) == 0 or step == steps:
                now = FittedHead(
                    head=head, mean_D=mean_D, scale_D=scale_D, weight_decay=weight_decay, steps=step, merit=0.0
                )
                merit = mean_dice(val[1], now.predict(val[0]), classes=classes)
                if best is None or merit > best.merit:
                    best = replace(now, head=copy.deepcopy(head), merit=merit)
    assert best is not None
    return best


def segmentation_loss(logits_BKHW: torch.Tensor, mask_BHW: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus one minus the soft Dice of each class over the batch; pixels of 255 do not count."""
    known_B1HW = (mask_BHW != NOT_ANNOTATED)[:, None]
    entropy = F.cross_entropy(logits_BKHW, mask_BHW, ignore_index=NOT_ANNOTATED)
    one_hot = F.one_hot(mask_BHW.clamp(max=logits_BKHW.shape[1] - 1), logits_BKHW.shape[1]).movedim(-1, 1) * known_B1HW
    predicted = logits_BKHW.softmax(1) * known_B1HW
    overlap, total = (predicted * one_hot).sum((0, 2, 3)), (predicted + one_hot).sum((0, 2, 3))
    return entropy + 1 - (2 * overlap / total.clamp(min=1e-6))[1:].mean()
