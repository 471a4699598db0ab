"""A network learnt from pools of frames by one recipe for every arm. B frames, K classes, H rows, W columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from echofm.clip import LEFT_ATRIUM
from echofm.errors import EchofmError
from synth.downstream.frames import Frames
from synth.downstream.settings import DownstreamSettings, Task

_LR, _WIDTHS, _SHIFT, _GAIN = 1e-3, (16, 32, 64, 128), 4, 0.2
_AT_A_TIME = 64


class Learner:
    """segmentation: MONAI's U-Net, cross-entropy and Dice; phase, view: its classifier. classes: of phase or view."""

    def __init__(self, task: Task, *, size: int, classes: Sequence[str] = ()) -> None:
        self.task, self.size, self.classes = task, size, list(classes)

    def fit(self, pools: Sequence[Frames], settings: DownstreamSettings, *, seed: int) -> nn.Module:
        """Equal parts of every update from each pool; frames are moved by some pixels and their gain is varied."""
        torch.manual_seed(seed)
        net, draw = self._net(), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(net.parameters(), lr=_LR)
        parts = [settings.batch // len(pools)] * len(pools)
        truths = [self.truth(pool) for pool in pools]
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = _LR * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            chosen = [torch.randint(len(pool), (part,), generator=draw) for pool, part in zip(pools, parts)]
            images = torch.cat([pool.image_N1HW[rows] for pool, rows in zip(pools, chosen)])
            truth = torch.cat([each[rows] for each, rows in zip(truths, chosen)])
            images, truth = _varied(images, truth, draw)
            optimizer.zero_grad()
            self._loss(net(images), truth).backward()
            optimizer.step()
        return net.eval()

    @torch.no_grad()
    def predict(self, net: nn.Module, frames: Frames) -> torch.Tensor:
        """The class of each pixel, or of each frame."""
        parts = frames.image_N1HW.split(_AT_A_TIME)
        return torch.cat([net(part).argmax(1) for part in parts])

    def truth(self, frames: Frames) -> torch.Tensor:
        """As `predict` would have it."""
        if self.task == "segmentation":
            return frames.mask_NHW
        words_N = frames.time_point_N if self.task == "phase" else frames.view_N
        return torch.tensor([self.classes.index(word) for word in words_N])

    def _net(self) -> Any:
        try:
            from monai.networks.nets.classifier import Classifier
            from monai.networks.nets.unet import UNet
        except ImportError:
            raise EchofmError("the networks are MONAI's: pip install 'echofm[synth]'") from None
        strides = (2,) * (len(_WIDTHS) - 1)
        if self.task == "segmentation":
            return UNet(2, 1, LEFT_ATRIUM + 1, channels=_WIDTHS, strides=strides, num_res_units=2)
        shape = (1, self.size, self.size)
        return Classifier(shape, len(self.classes), channels=_WIDTHS, strides=(2, *strides))

    def _loss(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self.task != "segmentation":
            return F.cross_entropy(output, truth)
        from monai.losses.dice import DiceCELoss

        return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(output, truth[:, None])


def _varied(images: torch.Tensor, truth: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The same shift for a frame and its map; no mirroring, which would make another heart."""
    gain_B = 1 + _GAIN * (2 * torch.rand(len(images), generator=draw) - 1)
    shift_B2 = torch.randint(-_SHIFT, _SHIFT + 1, (len(images), 2), generator=draw).tolist()
    moved = [torch.roll(each, shift, (-2, -1)) for each, shift in zip(images, shift_B2)]
    if truth.ndim > 1:
        truth = torch.stack([torch.roll(each, shift, (-2, -1)) for each, shift in zip(truth, shift_B2)])
    return (gain_B[:, None, None, None] * torch.stack(moved)).clamp(0, 1), truth


def overlap_N(mask_NHW: torch.Tensor, found_NHW: torch.Tensor, number: int) -> np.ndarray:
    """Dice of one class in each frame; NaN where the map does not have it."""
    true, found = (mask_NHW == number).flatten(1), (found_NHW == number).flatten(1)
    sizes_N = (true.sum(1) + found.sum(1)).double()
    dice_N = 2 * (true & found).sum(1) / sizes_N
    return torch.where(true.any(1), dice_N, math.nan).numpy()
