"""Images read where a flow points, and flows at another size.

B images, C channels, H rows, W columns. A flow is (x, y) in pixels, right and down positive.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def warp(image_BCHW: torch.Tensor, flow_B2HW: torch.Tensor) -> torch.Tensor:
    """The image at each position moved by the flow: bilinear; beyond the border the border's value."""
    height, width = image_BCHW.shape[2:]
    half_2 = flow_B2HW.new_tensor([(width - 1) / 2, (height - 1) / 2])
    grid_BHW2 = places(height, width, flow_B2HW) + flow_B2HW.permute(0, 2, 3, 1) / half_2
    return F.grid_sample(image_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=True)


def places(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """(H, W, 2): x and y of each position, -1 to 1, ends included."""
    x_W, y_H = (torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype) for size in (width, height))
    return torch.stack([x_W.expand(height, width), y_H[:, None].expand(height, width)], -1)


def resized(map_BCHW: torch.Tensor, scale: float) -> torch.Tensor:
    """Bilinear, by a factor."""
    if scale == 1:
        return map_BCHW
    return F.interpolate(map_BCHW, scale_factor=scale, mode="bilinear", align_corners=False)


def resized_flow(flow_BCHW: torch.Tensor, scale: float) -> torch.Tensor:
    """Bilinear, by a factor; its pixels are those of the new size."""
    return resized(flow_BCHW, scale) * scale
