"""Two figures that tell a collapsed embedding from a living one."""

from __future__ import annotations

import torch


@torch.no_grad()
def rankme(embedding_ND: torch.Tensor) -> float:
    """Effective rank in [1, min(N, D)]: exp of the entropy of the singular values' shares.

    RankMe, eq. 2, https://arxiv.org/abs/2210.02885. The mean row is taken off first: embeddings that differ only
    by noise around one vector would otherwise score 1 together with healthy ones that share a large mean.
    """
    centred_ND = embedding_ND.double() - embedding_ND.double().mean(0)
    singular = torch.linalg.svdvals(centred_ND)
    if singular.sum() == 0:
        return 1.0
    share = singular / singular.sum()
    return float(torch.exp(-torch.special.xlogy(share, share).sum()))


@torch.no_grad()
def embedding_std(embedding_ND: torch.Tensor) -> float:
    """Root mean square distance of the L2-normalised rows from their mean, in [0, 1]; 0: all rows are one."""
    unit_ND = torch.nn.functional.normalize(embedding_ND.double(), dim=1)
    return float((unit_ND - unit_ND.mean(0)).square().sum(1).mean().sqrt())
