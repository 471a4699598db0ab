"""Which tokens the encoder sees: drawn per clip from the clip's own seed (echofm.draws).

Shapes: B clips, N tokens of a clip, K visible ones, M hidden ones.
"""

from __future__ import annotations

import torch

from echofm.draws import Stream, hashed, integers
from echofm.errors import EchofmError
from echofm.model.tokens import Grid

KINDS = ("tube", "frame", "random")


def visible_count(count: int, ratio: float) -> int:
    """How many of `count` stay visible when `ratio` of them are hidden; at least one."""
    return max(1, int(count * (1 - ratio)))


def draw_visible(draw_B: torch.Tensor, grid: Grid, *, kind: str, ratio: float) -> torch.Tensor:
    """Ids (B, K) of the visible tokens, ascending.

    kind "tube": one spatial mask for all time indices (arXiv 2410.23413, spatio-temporal consistent masking);
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
        slices = 1 if kind == "tube" else grid.time
        scores = hashed(draw_B, slices, grid.space, stream=Stream.MASK)
        order = scores.argsort(dim=2, stable=True)[..., : visible_count(grid.space, ratio)]
        positions = order.sort(dim=2).values.expand(-1, grid.time, -1)
        times = torch.arange(grid.time, device=device).expand(len(draw_B), -1)
    return (times[:, :, None] * grid.space + positions).flatten(1)


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
