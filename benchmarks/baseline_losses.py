"""The baseline's periodic losses, held to tests/golden. Shapes: B clips, T time indices, D width, F frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity(cls_BTD: Tensor) -> Tensor:
    """Cosine similarity of every pair of a clip's time indices."""
    unit_BTD = F.normalize(cls_BTD, dim=-1)
    return unit_BTD @ unit_BTD.transpose(1, 2)


@torch.no_grad()
def pixel_similarity(video_BCFHW: Tensor, *, times: int, alpha: float) -> Tensor:
    """The pixel prior: grey frames pooled to the time grid and 32x32, spatial and temporal mean removed, cosine."""
    grey_BTHW = video_BCFHW.mean(1).unflatten(1, (times, -1)).mean(2)
    x_BTP = F.adaptive_avg_pool2d(grey_BTHW, 32).flatten(2)
    x_BTP = x_BTP - x_BTP.mean(-1, keepdim=True)
    return similarity(x_BTP - alpha * x_BTP.mean(1, keepdim=True))


def cycle_loss(sim_BTT: Tensor, prior_BTT: Tensor, *, tau: float) -> Tensor:
    """KL(softmax(prior / tau) || softmax(sim / tau)) without the diagonal, mean over anchor rows."""
    own = torch.eye(sim_BTT.shape[1], dtype=torch.bool, device=sim_BTT.device)
    log_p = (sim_BTT / tau).masked_fill(own, float("-inf")).log_softmax(-1).masked_fill(own, 0.0)
    log_q = (prior_BTT / tau).masked_fill(own, float("-inf")).log_softmax(-1)
    q = log_q.exp()
    return (q * (log_q.masked_fill(own, 0.0) - log_p)).sum(-1).mean()


def mine_triplets(sim_BTT: Tensor, prior_BTT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(hardest positive, hardest negative, valid), each (B, T); indices mean nothing where not valid."""
    times = sim_BTT.shape[1]
    step = torch.arange(times, device=sim_BTT.device)
    distance = (step[:, None] - step).abs()
    other = distance > 0
    row_mean = (prior_BTT * other).sum(-1, keepdim=True) / (times - 1)
    positive = (prior_BTT > row_mean) & other
    negative = (prior_BTT <= row_mean) & (distance > 1)
    pos_BT = sim_BTT.detach().masked_fill(~positive, float("inf")).argmin(-1)
    neg_BT = sim_BTT.detach().masked_fill(~negative, float("-inf")).argmax(-1)
    return pos_BT, neg_BT, positive.any(-1) & negative.any(-1)


def triplet_loss(sim_BTT: Tensor, prior_BTT: Tensor, *, margin: float) -> tuple[Tensor, Tensor]:
    """(mean hinge over valid anchors, fraction of them with a positive hinge); both 0 without a valid anchor."""
    pos_BT, neg_BT, valid_BT = mine_triplets(sim_BTT, prior_BTT)
    pos, neg = (sim_BTT.gather(2, index[..., None])[..., 0] for index in (pos_BT, neg_BT))
    hinge_BT = (neg - pos + margin).relu() * valid_BT
    anchors = valid_BT.sum().clamp(min=1)
    return hinge_BT.sum() / anchors, (hinge_BT > 0).sum() / anchors
