"""Motion by attention from one frame to the other: by how much each place's content has moved.

B pairs, h rows, w columns, L = h * w places, J heads, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# Places; a head first looks this far around its own.
_REACH = 1.5


class MotionAttention(nn.Module):
    """Where the places of one frame are found in the other, two numbers a head.

    motion = look(other) - look(own), look(f) = sum_k softmax_k(q . k_f / t - |x_k - x|^2 / (2 r^2)) x_k, with x in
    places, so that a frame has no motion to itself. Values never enter: what a frame looks like decides the weights
    alone, so the output holds displacements and no appearance. q, k of length one; temperature t and reach r of each
    head are learnt.
    """

    def __init__(self, features: int, *, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, heads * head_width)
        self.key = nn.Linear(features, heads * head_width)
        self.log_scale = nn.Parameter(torch.full((heads,), 2.3))
        self.log_reach = nn.Parameter(torch.full((heads,), _REACH).log())

    def forward(self, own_BhwD: torch.Tensor, other_BhwD: torch.Tensor) -> torch.Tensor:
        """(B, 2J, h, w): right and down, in places, from the own frame's places to where they are in the other."""
        height, width = own_BhwD.shape[1:3]
        place_L2 = _places(height, width, own_BhwD)
        apart_LL = torch.cdist(place_L2, place_L2, compute_mode="donot_use_mm_for_euclid_dist").square()
        far_JLL = apart_LL / (2 * (2 * self.log_reach).exp())[:, None, None]
        # Own and other frame at once.
        q_BJLD, k_BJLD = self._split(self.query(own_BhwD)), self._split(self.key(torch.cat([own_BhwD, other_BhwD])))
        scaled_BJLD = q_BJLD * self.log_scale.exp()[:, None, None]
        logits_BJLL = torch.cat([scaled_BJLD, scaled_BJLD]) @ k_BJLD.mT - far_JLL
        still_BJL2, found_BJL2 = (logits_BJLL.softmax(-1) @ place_L2).chunk(2)
        return (found_BJL2 - still_BJL2).transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))

    def _split(self, x_BhwD: torch.Tensor) -> torch.Tensor:
        return F.normalize(x_BhwD.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2), dim=-1)


def _places(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """(L, 2): column and row of every place."""
    rows, columns = (torch.arange(size, device=like.device, dtype=like.dtype) for size in (height, width))
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], -1).flatten(0, 1)
