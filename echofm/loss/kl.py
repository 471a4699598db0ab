"""Divergence of a variational autoencoder's posterior from a normal distribution."""

from __future__ import annotations

import torch


def kl_to_normal(mean_NC: torch.Tensor, logvar_NC: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each item, nats: the sum over all axes after the first, (N,).

    Kingma and Welling 2014, arXiv 1312.6114, appendix B.
    """
    return 0.5 * (mean_NC.square() + logvar_NC.exp() - 1 - logvar_NC).flatten(1).sum(1)
