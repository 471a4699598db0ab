"""AttentionPool: one learned query looks at a clip's tokens; and how it is fitted.

Shapes: B clips, T tokens, D features of a token, H heads, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from echofm.engine.config import half_cosine
from echofm.estimators.rows import Rows

BATCH = 64
_HEADS, _FEWEST_WIDE, _WARM_UP = 8, 32, 0.1


class AttentionPool(nn.Module):
    """Cross-attention from one learned query, a layer norm and a linear head: the attentive probe of V-JEPA
    (https://arxiv.org/abs/2404.08471) without its feed-forward layer.

    With a single query the product of a head's query with the key matrix is one vector per head; that vector is what is
    learned. Tokens are standardised by the mean and scale given; a token with NaN in it is not looked at, and a clip
    without any other token pools to zero.
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, mean_D: Tensor, scale_D: Tensor, *, outputs: int) -> None:
        super().__init__()
        tokens_width = len(mean_D)
        # A layer norm over a few numbers would leave little more than their signs.
        per_head = -(-max(_FEWEST_WIDE, tokens_width) // _HEADS)
        self.register_buffer("mean_D", mean_D)
        self.register_buffer("scale_D", scale_D)
        self.query_HD = nn.Parameter(torch.randn(_HEADS, tokens_width) * 0.02)
        self.value_HDE = nn.Parameter(torch.randn(_HEADS, tokens_width, per_head) * tokens_width**-0.5)
        self.value_bias = nn.Parameter(torch.randn(_HEADS * per_head) * 0.5)
        self.norm = nn.LayerNorm(_HEADS * per_head)
        self.head = nn.Linear(_HEADS * per_head, outputs)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """(B, O)."""
        there_BT = ~tokens_BTD.isnan().any(-1)
        x_BTD = (tokens_BTD - self.mean_D) / self.scale_D
        x_BTD = torch.where(there_BT[..., None], x_BTD, torch.zeros_like(x_BTD))
        score_BTH = x_BTD @ self.query_HD.T / math.sqrt(x_BTD.shape[-1])
        score_BTH = score_BTH.masked_fill(~there_BT[..., None], torch.finfo(score_BTH.dtype).min)
        pooled_BHD = score_BTH.softmax(1).transpose(1, 2) @ x_BTD
        value_BHE = torch.einsum("bhd,hde->bhe", pooled_BHD, self.value_HDE)
        return self.head(self.norm(value_BHE.flatten(1) + self.value_bias))


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """Rows of T * D numbers, T tokens one after another, and what the loss wants to know of each row."""

    rows: Rows
    target: Tensor

    def batch(self, places_B: npt.NDArray[np.int64], *, tokens: int, dtype: torch.dtype) -> Tensor:
        """(B, T, D)."""
        flat = torch.from_numpy(np.ascontiguousarray(self.rows.at(places_B))).to(dtype)
        return flat.reshape(len(flat), tokens, -1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW with a warm-up of a tenth and a cosine to zero; ends `patience` epochs after the best validation loss."""

    lr: float
    weight_decay: float
    epochs: int
    patience: int


def fit_pool(
    data: LabelledRows,
    *,
    tokens: int,
    outputs: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    seed: int,
    validation: LabelledRows | None = None,
) -> tuple[AttentionPool, int]:
    """The net, in double precision, of the epoch with the least validation loss (the last one without validation), and
    how many epochs were run. One seed gives one result; the process's own random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AttentionPool(*_token_scale(data.rows, tokens), outputs=outputs)
    optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    steps = schedule.epochs * math.ceil(len(data.rows) / BATCH)
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, steps))
    rng = np.random.default_rng(seed)
    best, best_loss, best_epoch, epoch = None, math.inf, 0, 0
    for epoch in range(1, schedule.epochs + 1):
        order = rng.permutation(len(data.rows))
        for first in range(0, len(order), BATCH):
            places = order[first : first + BATCH]
            optimizer.zero_grad()
            found = loss(net(data.batch(places, tokens=tokens, dtype=torch.float32)), data.target[places])
            found.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            pace.step()
        if validation is not None:
            now = _mean_loss(net, validation, tokens=tokens, loss=loss)
            if now < best_loss:
                best, best_loss, best_epoch = deepcopy(net.state_dict()), now, epoch
            elif epoch - best_epoch >= schedule.patience:
                break
    if best is not None:
        net.load_state_dict(best)
    return net.double().eval(), epoch


@torch.no_grad()
def pooled(net: AttentionPool, features_ND: npt.NDArray, *, tokens: int) -> npt.NDArray[np.float64]:
    """(N, O) outputs, in double precision, so that a clip's answer does not depend on its neighbours."""
    rows = Rows(features_ND=features_ND)
    return rows.map(
        lambda block: net(torch.from_numpy(np.array(block, np.float64)).reshape(len(block), tokens, -1)).numpy()
    )


@torch.no_grad()
def _mean_loss(
    net: AttentionPool, data: LabelledRows, *, tokens: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    total, at_once = 0.0, 4 * BATCH
    for first in range(0, len(data.rows), at_once):
        places = np.arange(first, min(first + at_once, len(data.rows)))
        predicted = net(data.batch(places, tokens=tokens, dtype=torch.float32))
        total += float(loss(predicted, data.target[places])) * len(places)
    return total / len(data.rows)


def _pace(step: int, steps: int) -> float:
    warm = max(1.0, _WARM_UP * steps)
    return (step + 1) / warm if step < warm else half_cosine((step - warm) / max(1.0, steps - warm))


def _token_scale(rows: Rows, tokens: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over the tokens that are there."""
    width = rows.dim // tokens
    count, total, square = 0, np.zeros(width), np.zeros(width)
    shift: npt.NDArray | float = 0.0
    for _, block in rows.blocks():
        every = np.asarray(block).reshape(-1, width)
        there = every[~np.isnan(every).any(1)].astype(np.float64)
        # Taken off first, so that a large mean costs no digits of the spread.
        shift = there.mean(0) if count == 0 and len(there) else shift
        count += len(there)
        total += (there - shift).sum(0)
        square += ((there - shift) ** 2).sum(0)
    mean = total / max(1, count)
    scale = np.sqrt(np.maximum(square / max(1, count) - mean**2, 0))
    scale = np.where(scale > 1e-9 * max(1.0, float(np.abs(mean + shift).max())), scale, 1.0)
    return torch.from_numpy(mean + shift).float(), torch.from_numpy(scale).float()
