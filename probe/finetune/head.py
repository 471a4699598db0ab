"""A linear head over a clip's mean features and its motion map, with gradients to the encoder; read from a probe.

B windows, D features, R x C cells of the motion map, F numbers of a window, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from echofm.embed.extract import MOTION_CELLS
from echofm.model.vit import VideoEncoder
from probe.predict.model import LabelModel

# As in `probe.labels.features`: far below any feature that moves.
_STILL, _NO_VARIANCE = 1e-6, 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Of the training clips' numbers and of the values that are regressed: both are learnt at mean 0, variance 1."""

    mean_F: npt.NDArray[np.float64]
    scale_F: npt.NDArray[np.float64]
    mean: float = 0.0
    scale: float = 1.0


class FinetuneNet(nn.Module):
    """An encoder and its head. Gives (B, O): values at mean 0 and variance 1, or logits (one of two classes)."""

    mean_F: torch.Tensor
    scale_F: torch.Tensor

    def __init__(self, encoder: VideoEncoder, start: LabelModel, spread: Spread) -> None:
        super().__init__()
        self.encoder, self._sizes = encoder.requires_grad_(True), start.scales.sizes
        if encoder.phase is not None:
            # Not read by the head.
            encoder.phase.requires_grad_(False)
        weight_OF, bias_O = linear_of(start)
        for name, values in (("mean_F", spread.mean_F), ("scale_F", spread.scale_F)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        self.head = nn.Linear(weight_OF.shape[1], weight_OF.shape[0])
        with torch.no_grad():
            bias_O = (bias_O + weight_OF @ spread.mean_F - spread.mean) / spread.scale
            self.head.weight.copy_(torch.from_numpy(weight_OF * spread.scale_F / spread.scale))
            self.head.bias.copy_(torch.from_numpy(bias_O))

    def forward(self, video_BCTHW: torch.Tensor) -> torch.Tensor:
        """(B, O)."""
        tokens_BND = self.encoder(video_BCTHW)
        grid = self.encoder.grid(video_BCTHW)
        varies_BRCD = tokens_BND.float().unflatten(1, tuple(grid)).var(1, correction=0)
        moved_BDRC = (varies_BRCD + _NO_VARIANCE).sqrt().permute(0, 3, 1, 2)
        cells = (min(MOTION_CELLS, grid.rows), min(MOTION_CELLS, grid.columns))
        moved_BRCD = F.adaptive_avg_pool2d(moved_BDRC, cells).permute(0, 2, 3, 1)
        parts = tokens_BND.mean(1).float(), (moved_BRCD.flatten(1) + _STILL).log()
        features_BF = torch.cat([part / size for part, size in zip(parts, self._sizes, strict=True)], 1)
        return self.head((features_BF - self.mean_F) / self.scale_F)


def linear_of(model: LabelModel) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(O, F) weights and (O,) biases of a ridge or a logistic regression."""
    estimator = model.fitted.model
    weight_OF = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    return weight_OF, np.atleast_1d(np.asarray(estimator.intercept_, np.float64))


def put_back(estimator: Any, net: FinetuneNet, spread: Spread) -> None:
    """Write the head into a ridge or a logistic regression of plain features."""
    weight_OF = net.head.weight.detach().double().cpu().numpy() / spread.scale_F * spread.scale
    bias_O = net.head.bias.detach().double().cpu().numpy() * spread.scale + spread.mean - weight_OF @ spread.mean_F
    one = np.ndim(estimator.coef_) == 1
    estimator.coef_ = weight_OF[0] if one else weight_OF
    estimator.intercept_ = float(bias_O[0]) if one else bias_O
