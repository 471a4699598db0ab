"""PixelEncoder: no parameters at all, a window's pixels on a coarse grid. What any encoder must beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from echofm.backbones.frozen import FrozenEncoder
from echofm.contract import InputContract
from echofm.model.tokens import Grid
from echofm.model.vit import Encoding

TIMES, SIDE = 16, 14


class _Downsample(nn.Module):
    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def encode(self, video_BCTHW: torch.Tensor) -> Encoding:
        times, rows, columns = self.grid
        grey_BTRC = F.adaptive_avg_pool3d(video_BCTHW.mean(1), (times, rows, columns))
        return Encoding(
            tokens_BND=grey_BTRC.flatten(1)[..., None], phase_BTD=grey_BTRC.flatten(2), video_BD=grey_BTRC.flatten(1)
        )


class PixelEncoder(FrozenEncoder):
    """Grey pixels averaged to at most 16 times x 14 x 14; features are that grid, flattened.

    contract: whose windows to take; that of the encoder it stands beside. Probes reduce its features by a principal
    component analysis of the training patients, its number of components chosen on validation patients.
    """

    def __init__(self, contract: InputContract) -> None:
        # Times must divide the window, so that each stands for as many frames.
        times = max(count for count in range(1, TIMES + 1) if contract.frames % count == 0)
        side = min(SIDE, contract.size)
        grid = Grid(times, side, side)
        settings = {"encoder": "pixels", "grid": list(grid)}
        super().__init__(_Downsample(grid), contract=contract, grid=grid, sees_time=True, settings=settings)
