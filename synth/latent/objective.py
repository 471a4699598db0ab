"""What a reconstruction costs: pixels, perceptual distance and the latents' divergence, frame by frame.

N frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from echofm.loss.kl import kl_to_normal
from synth.latent.autoencoder import Reconstructed
from synth.latent.config import LossConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """Of each frame (N,).

    nll_N: negative log likelihood, l1 |x - y| + l2 (x - y)^2 + perceptual distance, reduced over channels and pixels.
    kl_N: divergence in nats, reduced alike: with "mean" divided by the number of channels times pixels.
    """

    nll_N: torch.Tensor
    kl_N: torch.Tensor


def costs_of(found: Reconstructed, distance_N: torch.Tensor | None, config: LossConfig) -> Costs:
    """The costs of reconstructed frames.

    distance_N: perceptual, added to every channel of every pixel (Rombach et al. 2022, as their code has it).
    """
    error_NCHW = found.seen_NCHW - found.output_NCHW
    cost_NCHW = config.l1 * error_NCHW.abs()
    if config.l2:
        cost_NCHW = cost_NCHW + config.l2 * error_NCHW.square()
    if distance_N is not None:
        cost_NCHW = cost_NCHW + config.perceptual * distance_N[:, None, None, None]
    nll_N, kl_N = cost_NCHW.flatten(1).sum(1), kl_to_normal(found.mean_NChw, found.logvar_NChw)
    numbers = 1 if config.reduction == "sum" else error_NCHW[0].numel()
    return Costs(nll_N=nll_N / numbers, kl_N=kl_N / numbers)
