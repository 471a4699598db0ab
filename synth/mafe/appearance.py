"""The appearance of a frame: its encoder tokens, whitened, through a small head.

N frames, F numbers of a frame's pooled tokens, K components, D numbers of the appearance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# Identity lies in directions of little variance, so that these are scaled up first; more are noise.
COMPONENTS = 128


class Appearance(nn.Module):
    """Vectors of length one from a frame's tokens.

    mean_F, basis_KF: found on training frames by `fit` and not trained; until then a few of the numbers as they are.
    """

    mean_F: torch.Tensor
    basis_KF: torch.Tensor

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(inputs))
        self.register_buffer("basis_KF", torch.eye(COMPONENTS, inputs))
        self.linear = nn.Linear(COMPONENTS, width)
        self.beside = nn.Sequential(nn.Linear(COMPONENTS, width), nn.GELU(), nn.Linear(width, width))

    @torch.no_grad()
    def fit(self, tokens_NF: torch.Tensor) -> None:
        """Whiten: the leading components of training frames, each to unit variance; fewer frames give fewer."""
        self.mean_F.copy_(tokens_NF.mean(0))
        centred_NF = (tokens_NF - self.mean_F).double().cpu()
        _, value_K, right_KF = torch.linalg.svd(centred_NF, full_matrices=False)
        value_K, right_KF = value_K[:COMPONENTS], right_KF[:COMPONENTS]
        # Of N centred frames one direction is empty; a sign is the decomposition's own.
        known_K = value_K > 1e-6 * value_K[0]
        sign_K1 = right_KF.gather(1, right_KF.abs().argmax(1, keepdim=True)).sign()
        scale_K1 = (len(tokens_NF) ** 0.5 / value_K.clamp(min=1e-12) * known_K)[:, None]
        self.basis_KF.zero_()
        self.basis_KF[: len(value_K)] = (sign_K1 * scale_K1 * right_KF).to(self.basis_KF)

    def forward(self, tokens_NF: torch.Tensor) -> torch.Tensor:
        """(N, D)."""
        white_NK = (tokens_NF - self.mean_F) @ self.basis_KF.T
        return F.normalize(self.linear(white_NK) + self.beside(white_NK), dim=1)
