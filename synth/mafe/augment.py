"""One change of geometry and order for all that belongs together: frames, sector, flow and the order of the pair.

B triples, H rows, W columns. Draws come from the clip's seed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F

from echofm.draws import Stream, bernoulli, uniform
from synth.mafe.batch import LessonBatch

# Degrees, share of the size, share of the side: as far as operators hold the probe otherwise. Never mirrored, as left
# and right mean something in a heart.
_TURN_DEG, _ZOOM, _SHIFT = 15.0, 0.1, 0.05


def varied(batch: LessonBatch) -> LessonBatch:
    """Turned, zoomed and shifted, and in half of the cases in reverse order."""
    unit_B4 = 2 * uniform(batch.draw_B, 4, stream=Stream.VIEW_POSITION).float() - 1
    angle_B = unit_B4[:, 0] * math.radians(_TURN_DEG)
    zoom_B = 1 + _ZOOM * unit_B4[:, 1]
    moved = transformed(batch, angle_B=angle_B, zoom_B=zoom_B, shift_B2=_SHIFT * 2 * unit_B4[:, 2:])
    return exchanged(moved, bernoulli(batch.draw_B, 1, probability=0.5, stream=Stream.PAIR)[:, 0])


def transformed(
    batch: LessonBatch, *, angle_B: torch.Tensor, zoom_B: torch.Tensor, shift_B2: torch.Tensor
) -> LessonBatch:
    """Frames, sector and flow read at x' = zoom * turn(x) + shift, in units of half a side; flow's arrows turn too.

    An arrow u of the old picture is turn^-1(u) / zoom in the new one.
    """
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    turn_B22 = torch.stack([torch.stack([cos_B, -sin_B], 1), torch.stack([sin_B, cos_B], 1)], 1)
    matrix_B23 = torch.cat([zoom_B[:, None, None] * turn_B22, shift_B2[:, :, None]], 2)
    frames_BTHW = _read(batch.video_BCTHW[:, 0], matrix_B23)
    flow_BPahw = _read(batch.flow_B4hw, matrix_B23).unflatten(1, (2, 2))
    flow_B4hw = torch.einsum("bca,bpchw->bpahw", turn_B22, flow_BPahw).flatten(1, 2) / zoom_B[:, None, None, None]
    sector_BHW = _read(batch.sector_BHW[:, None].float(), matrix_B23)[:, 0] > 0.5
    return replace(batch, video_BCTHW=frames_BTHW[:, None], sector_BHW=sector_BHW, flow_B4hw=flow_B4hw)


def exchanged(batch: LessonBatch, turned_B: torch.Tensor) -> LessonBatch:
    """Those in reverse: last frame first, the time from the other end, the two flows exchanged."""
    video = torch.where(turned_B.view(-1, 1, 1, 1, 1), batch.video_BCTHW.flip(2), batch.video_BCTHW)
    flow = torch.where(turned_B.view(-1, 1, 1, 1), batch.flow_B4hw.roll(2, 1), batch.flow_B4hw)
    time_B = torch.where(turned_B, 1 - batch.time_B, batch.time_B)
    return replace(batch, video_BCTHW=video, flow_B4hw=flow, time_B=time_B)


def _read(image_BCHW: torch.Tensor, matrix_B23: torch.Tensor) -> torch.Tensor:
    grid = F.affine_grid(matrix_B23, list(image_BCHW.shape), align_corners=False)
    return F.grid_sample(image_BCHW, grid, align_corners=False)
