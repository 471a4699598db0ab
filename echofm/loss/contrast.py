"""Contrast of clips: views of one clip are more alike in embedding than views of different clips.

InfoNCE (arXiv 1807.03748) with several positives, as L_out of supervised contrastive learning (arXiv 2004.11362,
equation 2) where a label is a clip. As in `periodic`, sums are returned, not means.

Shapes: Q views asked, K views they are compared with, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """Views as the loss sees them.

    vector_RD: of length 1. clip_R: int64, the same for views of one clip and for no other. number_R: which of its
    clip's views it is, so that a view is known to be itself.
    """

    vector_RD: torch.Tensor
    clip_R: torch.Tensor
    number_R: torch.Tensor


def contrast_sum(asked: Embedded, compared: Embedded, *, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over the asked views of -mean_p log(exp(s_p / t) / sum_k exp(s_k / t)), and how many find their clip.

    s are cosines with the views compared, which carry no gradient and hold all views of the global batch: the loss of a
    view then does not depend on how the batch was cut. p: the other views of its clip; k: all but itself. A view finds
    its clip where the most similar one is of the same clip. A view without another one of its clip adds nothing.
    """
    cosine_QK = asked.vector_RD @ compared.vector_RD.detach().T
    same_QK = asked.clip_R[:, None] == compared.clip_R
    itself_QK = same_QK & (asked.number_R[:, None] == compared.number_R)
    logit_QK = (cosine_QK / temperature).masked_fill(itself_QK, -torch.inf)
    positive_QK = same_QK & ~itself_QK
    surprise_QK = logit_QK.logsumexp(1, keepdim=True) - logit_QK
    loss_Q = surprise_QK.masked_fill(~positive_QK, 0).sum(1) / positive_QK.sum(1).clamp(min=1)
    found_Q = positive_QK.gather(1, logit_QK.argmax(1, keepdim=True))
    return loss_Q.sum(), found_Q.sum().to(loss_Q.dtype)
