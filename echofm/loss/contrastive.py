"""InfoNCE (arXiv 1807.03748) with several positives: what belongs together is more alike in embedding than the rest.

As L_out of supervised contrastive learning (arXiv 2004.11362, equation 2). Here for views of clips and, in the audit,
for recordings of patients. Pure functions.

Shapes: Q queries, K keys, R views, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class InfoNce:
    """loss_Q: of each query, 0 where it has no positive. found_Q: is its most similar key a positive?
    positives_Q: how many it has."""

    loss_Q: torch.Tensor
    found_Q: torch.Tensor
    positives_Q: torch.Tensor


def info_nce(
    query_QD: torch.Tensor,
    key_KD: torch.Tensor,
    *,
    same_QK: torch.Tensor,
    itself_QK: torch.Tensor,
    temperature: float,
) -> InfoNce:
    """-mean_p log(exp(s_p / t) / sum_k exp(s_k / t)) of each query; s: cosines, all rows being of length one.

    same_QK: bool, who belongs together; these but itself are the positives p. itself_QK: bool, the same thing; k: all
    but this.
    """
    logit_QK = (query_QD @ key_KD.T / temperature).masked_fill(itself_QK, -torch.inf)
    positive_QK = same_QK & ~itself_QK
    positives_Q = positive_QK.sum(1)
    surprise_QK = logit_QK.logsumexp(1, keepdim=True) - logit_QK
    return InfoNce(
        loss_Q=surprise_QK.masked_fill(~positive_QK, 0).sum(1) / positives_Q.clamp(min=1),
        found_Q=positive_QK.gather(1, logit_QK.argmax(1, keepdim=True))[:, 0],
        positives_Q=positives_Q,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """Views as the loss sees them.

    vector_RD: of length 1. clip_R: int64, the same for views of one clip and for no other. number_R: which of its
    clip's views it is, so that a view is known to be itself.
    """

    vector_RD: torch.Tensor
    clip_R: torch.Tensor
    number_R: torch.Tensor


def clip_contrast_sum(query: Embedded, key: Embedded, *, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the InfoNCE of some views, a label being a clip, and how many of them find their clip.

    The keys carry no gradient and hold all views of the global batch: the loss of a view then does not depend on how
    the batch was cut. A sum, as in `periodic`, for the same reason.
    """
    same_QK = query.clip_R[:, None] == key.clip_R
    itself_QK = same_QK & (query.number_R[:, None] == key.number_R)
    contrast = info_nce(
        query.vector_RD, key.vector_RD.detach(), same_QK=same_QK, itself_QK=itself_QK, temperature=temperature
    )
    return contrast.loss_Q.sum(), contrast.found_Q.sum().to(contrast.loss_Q.dtype)
