"""Views of a clip for the contrast of clips: single moments, each held, lit and hidden in its own way.

Every draw comes from the clip's own seed, as masks do. Shapes: B clips, V views of each, R = B * V views with a clip's
beside one another, C channels, T frames or time indices, H rows, W columns, K visible tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from echofm.draws import Stream, hashed, integers, uniform
from echofm.model.masks import visible_count
from echofm.model.tokens import Grid

# Part of a moment's tokens that a view does not show.
_HIDDEN = 0.375
_TURN_RADIANS, _ZOOM, _STRETCH, _SHIFT = 0.45, 0.35, 0.1, 0.25
_EXPONENT, _GAIN, _RAMP = 0.5, 0.4, 0.3
_NUMBERS = 9
# Of the vectors that are contrasted.
_WIDTH = 128


class ClipHead(nn.Sequential):
    """The contrast of clips is of what two layers make of a view's mean token (arXiv 2002.05709), so that the encoder
    need not forget what a view's draw changes. For training alone: embeddings are the encoder's own."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, _WIDTH))


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """shown_RCTHW: the frames of one tubelet layer, values in [0, 1]. ids_RK: the visible tokens' ids in the clip's
    whole grid, ascending. clip_R: the seed of its clip. number_R: 0 to V - 1."""

    shown_RCTHW: torch.Tensor
    ids_RK: torch.Tensor
    clip_R: torch.Tensor
    number_R: torch.Tensor


@torch.no_grad()
def draw_views(video_BCTHW: torch.Tensor, draw_B: torch.Tensor, grid: Grid, *, views: int, tubelet: int) -> Views:
    """Draw `views` moments of each clip, five eighths of the positions of each.

    Each is turned by up to 26 degrees, zoomed by 0.70 to 1.42, stretched by up to a tenth, moved by up to an eighth of
    the image, mirrored or not; its grey values are raised to a power of 0.61 to 1.65, multiplied by 0.6 to 1.4 and by a
    ramp over depth of up to 0.3 either way. So it is the heart that has to be recognised, not how it was held or lit.
    """
    clips, device = len(video_BCTHW), video_BCTHW.device
    time_BV = integers(draw_B, views, high=grid.time, stream=Stream.VIEW_TIME)
    scores = hashed(draw_B, views, grid.space, stream=Stream.VIEW_POSITION)
    positions = scores.argsort(dim=2, stable=True)[..., : visible_count(grid.space, _HIDDEN)].sort(dim=2).values
    frames_BVt = time_BV[..., None] * tubelet + torch.arange(tubelet, device=device)
    clip_B11 = torch.arange(clips, device=device)[:, None, None]
    shown = video_BCTHW.movedim(2, 1)[clip_B11, frames_BVt].flatten(0, 1).movedim(1, 2)
    uniform_RN = 2 * uniform(draw_B, views, _NUMBERS, stream=Stream.VIEW_LOOK).flatten(0, 1) - 1
    return Views(
        shown_RCTHW=_lit(_held(shown, uniform_RN), uniform_RN),
        ids_RK=(time_BV[..., None] * grid.space + positions).flatten(0, 1),
        clip_R=draw_B.repeat_interleave(views),
        number_R=torch.arange(views, device=device).repeat(clips),
    )


def _held(shown_RCTHW: torch.Tensor, uniform_RN: torch.Tensor) -> torch.Tensor:
    """Turned, zoomed, stretched, moved, mirrored; black where nothing was."""
    turn, zoom, stretch, across, down, mirror = uniform_RN[:, :6].unbind(1)
    turn, zoom, stretch = _TURN_RADIANS * turn, (_ZOOM * zoom).exp(), (_STRETCH * stretch).exp()
    side = torch.where(mirror > 0, 1.0, -1.0) * zoom * stretch
    rows = [side * turn.cos(), -zoom * turn.sin(), _SHIFT * across, side * turn.sin(), zoom * turn.cos(), _SHIFT * down]
    frames = shown_RCTHW.flatten(1, 2)
    where = F.affine_grid(torch.stack(rows, 1).unflatten(1, (2, 3)).to(frames), list(frames.shape), align_corners=False)
    return F.grid_sample(frames, where, align_corners=False).view_as(shown_RCTHW)


def _lit(shown_RCTHW: torch.Tensor, uniform_RN: torch.Tensor) -> torch.Tensor:
    exponent, gain, ramp = (each.to(shown_RCTHW).view(-1, 1, 1, 1, 1) for each in uniform_RN[:, 6:].unbind(1))
    depth_H1 = torch.linspace(-1, 1, shown_RCTHW.shape[-2], device=shown_RCTHW.device)[:, None].to(shown_RCTHW)
    factor = (1 + _GAIN * gain) * (1 + _RAMP * ramp * depth_H1)
    return (shown_RCTHW.clamp(min=0) ** (_EXPONENT * exponent).exp() * factor).clamp(0, 1)
