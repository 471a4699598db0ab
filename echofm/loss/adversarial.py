"""The hinge losses of an adversarial pair, and the weight that balances the adversary against the other losses.

N items; a discriminator scores each as a whole or in patches (N, ...), high where it takes it for real.
"""

from __future__ import annotations

import torch

LARGEST_WEIGHT, _EPS = 1e4, 1e-4


def hinge_discriminator(score_of_real_N: torch.Tensor, score_of_output_N: torch.Tensor) -> torch.Tensor:
    """(relu(1 - real) + relu(1 + output)) / 2 of each item, the mean over its patches, (N,).

    Lim and Ye 2017, arXiv 1705.02894.
    """
    real, output = (1 - score_of_real_N).relu(), (1 + score_of_output_N).relu()
    return (real.flatten(1).mean(1) + output.flatten(1).mean(1)) / 2


def hinge_generator(score_of_output_N: torch.Tensor) -> torch.Tensor:
    """-score of each item, the mean over its patches, (N,)."""
    return -score_of_output_N.flatten(1).mean(1)


def adaptive_weight(of_others: torch.Tensor, of_adversary: torch.Tensor) -> torch.Tensor:
    """|of_others| / (|of_adversary| + 1e-4), at most 1e4, without gradient.

    Both are gradients of the whole batch's losses with respect to the output's last layer: the adversary then pulls
    there as much as all else. Esser et al. 2021, arXiv 2012.09841, equation 7.
    """
    return (of_others.norm() / (of_adversary.norm() + _EPS)).clamp(0, LARGEST_WEIGHT).detach()
