"""Colour boxes drawn onto greyscale clips: true pairs from any B-mode data.

Shapes: B clips, J jets, T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from echofm.clip import ClipBatch
from echofm.colour_flow import WALL_FILTER, aliased, colour_map
from echofm.draws import Stream, hashed, normal, uniform

_JETS, _NOISE, _SHADES = 4, 0.1, 255
# Chance that colour lies on tissue too, as it does where the operator gives it priority.
_OVER_TISSUE = 0.4


def with_drawn_colour(batch: ClipBatch) -> ClipBatch:
    """The grey batch in RGB with a drawn box of colour in each clip, and as its pair the grey as it was.

    A box along the beams (`beam_B2HW`) holds jets that come and go, each with its time and direction; they alias, the
    slow is not shown, noise is new in every frame, and colour gives way to bright tissue in some clips. Each clip's
    draw is from its own seed (`echofm.draws`).
    """
    assert batch.beam_B2HW is not None, "the batch must carry `beam`"
    grey_BTHW = batch.video_BCTHW[:, 0]
    drawn = uniform(batch.draw_B, 6 + 8 * _JETS, stream=Stream.COLOUR_BOX).float()
    share_BTHW = _velocities(batch, drawn[:, 6:].unflatten(1, (_JETS, 8)), _box(batch, drawn[:, :4]))
    over, most_grey = drawn[:, 4] < _OVER_TISSUE, 0.3 + 0.25 * drawn[:, 5]
    gives_way = (grey_BTHW > most_grey[:, None, None, None]) & ~over[:, None, None, None]
    shown_BTHW = (share_BTHW.abs() > WALL_FILTER) & ~gives_way & batch.sector_BHW[:, None]
    # Colour is measured on a coarser grid than grey.
    shown_BTHW = F.avg_pool2d(shown_BTHW.float(), 3, stride=1, padding=1) > 0.5
    levels = colour_map(np.linspace(-1, 1, _SHADES)).astype(np.float32) / 255
    shades_SC = torch.from_numpy(levels).to(grey_BTHW.device)
    place_BTHW = ((share_BTHW + 1) * ((_SHADES - 1) / 2)).round().long().clamp(0, _SHADES - 1)
    colour_BCTHW = shades_SC[place_BTHW].movedim(-1, 1)
    video_BCTHW = torch.where(shown_BTHW[:, None], colour_BCTHW, batch.video_BCTHW)
    return replace(batch, video_BCTHW=video_BCTHW, paired_BCTHW=batch.video_BCTHW)


def _box(batch: ClipBatch, drawn_B4: torch.Tensor) -> torch.Tensor:
    """(B, 4) its first depth, length, first angle and width, as shares of the image."""
    length_B, width_B = 0.25 + 0.25 * drawn_B4[:, 1], 0.25 + 0.25 * drawn_B4[:, 3]
    return torch.stack(
        [0.15 + drawn_B4[:, 0] * (0.8 - length_B), length_B, 0.1 + drawn_B4[:, 2] * (0.8 - width_B), width_B], 1
    )


def _velocities(batch: ClipBatch, jets_BJ8: torch.Tensor, box_B4: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W) of the Nyquist velocity, aliased; 0 outside the box and where nothing flows."""
    assert batch.beam_B2HW is not None
    frames, size = batch.video_BCTHW.shape[2], batch.video_BCTHW.shape[-1]
    top, length, left, width = (each[:, None, None] for each in box_B4.unbind(1))
    depth_BHW, angle_BHW = (batch.beam_B2HW[:, 0] - top) / length, (batch.beam_B2HW[:, 1] - left) / width
    inside_BHW = (depth_BHW >= 0) & (depth_BHW <= 1) & (angle_BHW >= 0) & (angle_BHW <= 1)
    frame_T = torch.arange(frames, device=depth_BHW.device, dtype=torch.float32)
    total = torch.zeros_like(batch.video_BCTHW[:, 0])
    for jet_B8 in jets_BJ8.unbind(1):
        middle_depth, middle_angle, long, wide, speed, period, phase, bend = (each[:, None, None] for each in jet_B8.T)
        along = (depth_BHW - middle_depth) / (0.15 + 0.35 * long)
        aside = (angle_BHW - middle_angle - (bend - 0.5) * (depth_BHW - middle_depth)) / (0.08 + 0.22 * wide)
        shape_BHW = torch.exp(-(along**2) - aside**2)
        turn_BT = 2 * torch.pi * (frame_T / (8 + 32 * period[:, 0]) + phase[:, 0])
        sign_BT = torch.where(speed[:, 0] < 0.5, -1.0, 1.0)
        strength_BT = sign_BT * (0.5 + 2 * (2 * speed[:, 0] - 1).abs()) * turn_BT.sin().clamp(min=0)
        total = total + strength_BT[:, :, None, None] * shape_BHW[:, None]
    # The noise's seed is the clip's, turned once more, as its stream has been used for the jets.
    noise = normal(
        hashed(batch.draw_B, 1, stream=Stream.COLOUR_BOX)[:, 0], frames, size, size, stream=Stream.COLOUR_BOX
    )
    smooth = F.avg_pool2d(noise, 3, stride=1, padding=1) * 3
    flows = total.abs() > WALL_FILTER
    return aliased(total + _NOISE * smooth, 1.0) * flows * inside_BHW[:, None]
