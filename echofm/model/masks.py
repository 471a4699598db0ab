"""Which tokens the encoder sees, and views of a clip for the contrast of clips: single moments, each held, lit and
hidden in its own way. All is drawn per clip from the clip's own seed (echofm.draws).

Shapes: B clips, N tokens of a clip, K visible ones, M hidden ones; V views of a clip, R = B * V views with a clip's
beside one another, C channels, T frames or time indices, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from echofm.draws import Stream, hashed, integers, uniform
from echofm.errors import EchofmError
from echofm.model.tokens import Grid

KINDS = ("tube", "block", "frame", "random")
# Sides of a block of positions, parts of the grid's.
_BLOCK_SIDES = 0.25, 0.5
_BLOCKS = 16

# Part of a moment's tokens that a view does not show.
_HIDDEN = 0.375
_TURN_RADIANS, _ZOOM, _STRETCH, _SHIFT = 0.45, 0.35, 0.1, 0.25
_EXPONENT, _GAIN, _RAMP = 0.5, 0.4, 0.3
_NUMBERS = 9
# Of the vectors that are contrasted.
_WIDTH = 128


def visible_count(count: int, ratio: float) -> int:
    """How many of `count` stay visible when `ratio` of them are hidden; at least one."""
    return max(1, int(count * (1 - ratio)))


def draw_visible(draw_B: torch.Tensor, grid: Grid, *, kind: str, ratio: float) -> torch.Tensor:
    """Ids (B, K) of the visible tokens, ascending.

    kind "tube": one spatial mask for all time indices (arXiv 2410.23413, spatio-temporal consistent masking);
    "block": the same, of overlapping rectangles with sides of a quarter to half the grid's (after arXiv 2404.08471);
    "frame": whole time indices, evenly spaced from a random first one (uniform-frame masking);
    "random": a spatial mask of its own for every time index.
    """
    assert kind in KINDS, kind
    device = draw_B.device
    if kind == "frame":
        kept = visible_count(grid.time, ratio)
        spaced = torch.arange(kept, device=device) * grid.time // kept
        first_B1 = integers(draw_B, 1, high=grid.time, stream=Stream.MASK)
        times = ((first_B1 + spaced) % grid.time).sort(dim=1).values
        positions = torch.arange(grid.space, device=device).expand(len(draw_B), kept, -1)
    else:
        slices = grid.time if kind == "random" else 1
        scores = hashed(draw_B, slices, grid.space, stream=Stream.MASK)
        if kind == "block":
            scores = _uncovered(draw_B, grid, scores)
        order = scores.argsort(dim=2, stable=True)[..., : visible_count(grid.space, ratio)]
        positions = order.sort(dim=2).values.expand(-1, grid.time, -1)
        times = torch.arange(grid.time, device=device).expand(len(draw_B), -1)
    return (times[:, :, None] * grid.space + positions).flatten(1)


def _uncovered(draw_B: torch.Tensor, grid: Grid, scores_B1S: torch.Tensor) -> torch.Tensor:
    """(B, 1, space) ranks: lowest where no block lies, then where later ones do; by `scores` among equals.

    So as many positions as wanted are hidden, the last block in part.
    """
    low, high = _BLOCK_SIDES
    drawn = uniform(draw_B, _BLOCKS, 4, stream=Stream.BLOCK)
    sides = torch.tensor([grid.rows, grid.columns], device=draw_B.device)
    length = ((low + (high - low) * drawn[..., :2]) * sides).round().clamp(min=1)
    first = (drawn[..., 2:] * sides).floor()
    position = torch.arange(grid.space, device=draw_B.device)
    where_S2 = torch.stack([position // grid.columns, position % grid.columns], 1)
    # What passes an edge enters at the other, or the middle of the picture would hardly ever be shown.
    covers_BKS = ((where_S2 - first[:, :, None]) % sides < length[:, :, None]).all(-1)
    order = torch.arange(_BLOCKS, 0, -1, device=draw_B.device)[:, None]
    first_block_BS = (covers_BKS * order).amax(1)
    by_score = scores_B1S.argsort(dim=2, stable=True).argsort(dim=2, stable=True)
    return first_block_BS[:, None] * grid.space + by_score


def check_visible(visible_BK: torch.Tensor, grid: Grid, *, times_BT: torch.Tensor) -> None:
    """Raise EchofmError where ids a caller gave are not ascending tokens, as many in each of the time indices."""
    each = visible_BK.unflatten(1, (times_BT.shape[1], -1)) // grid.space == times_BT[:, :, None]
    ascending = (visible_BK.diff(dim=1) > 0).all() & (times_BT.diff(dim=1) > 0).all()
    inside = (visible_BK[:, 0] >= 0) & (visible_BK[:, -1] < grid.tokens)
    if not bool(each.all() & ascending & inside.all()):
        raise EchofmError(f"visible_ids must be ascending, in 0..{grid.tokens - 1}, and as many in each time index")


def hidden_ids(visible_BK: torch.Tensor, tokens: int) -> torch.Tensor:
    """Ids (B, M) of the tokens that are not visible, ascending."""
    seen = torch.zeros(len(visible_BK), tokens, dtype=torch.uint8, device=visible_BK.device)
    seen.scatter_(1, visible_BK, 1)
    # A stable sort puts the unseen first, in order, without the wait for a count that `nonzero` needs.
    return seen.argsort(dim=1, stable=True)[:, : tokens - visible_BK.shape[1]]


def draw_part(draw_B: torch.Tensor, ids_BM: torch.Tensor, *, ratio: float) -> torch.Tensor:
    """A random part of the ids of each clip, `ratio` of them and at least one, ascending where they were."""
    kept = max(1, round(ids_BM.shape[1] * ratio))
    scores = hashed(draw_B, ids_BM.shape[1], stream=Stream.DECODED)
    chosen = scores.argsort(dim=1, stable=True)[:, :kept].sort(dim=1).values
    return ids_BM.gather(1, chosen)


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
