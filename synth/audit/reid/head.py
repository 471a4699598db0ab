"""The head (principal components of the frozen features, a small network, a unit vector) and what it is trained to do:
bring a patient's samples together and part those of others.

M samples, D features in, K components, E = 128 features out, P pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import nn

from echofm.backbones.frozen import seeded
from echofm.errors import EchofmError
from echofm.loss.contrastive import info_nce
from synth.audit.reid.options import WIDTH

# Components are found on this many samples at most; more change them little and cost memory.
_MOST_SAMPLES = 8192
_BLOCK_ROWS = 2048


class Components(nn.Module):
    """Centres, projects on principal components and scales each to unit variance on the training samples.

    mean_D, basis_KD, scale_K: buffers, so that they are saved with the weights and never trained.
    """

    mean_D: torch.Tensor
    basis_KD: torch.Tensor
    scale_K: torch.Tensor

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("basis_KD", torch.zeros(components, features))
        self.register_buffer("scale_K", torch.ones(components))

    @classmethod
    def of(cls, samples_MD: npt.NDArray[np.float32], *, components: int, seed: int) -> Components:
        """The leading components of the samples, fewer where these have fewer directions."""
        rows = np.random.default_rng(seed).permutation(len(samples_MD))[:_MOST_SAMPLES]
        chosen = np.asarray(samples_MD[np.sort(rows)], np.float32)
        components = min(components, len(chosen) - 1, chosen.shape[1])
        found = PCA(components, svd_solver="randomized", random_state=seed).fit(chosen)
        made = cls(chosen.shape[1], components)
        made.mean_D.copy_(torch.from_numpy(np.asarray(found.mean_, np.float32)))
        made.basis_KD.copy_(torch.from_numpy(np.ascontiguousarray(found.components_, np.float32)))
        spread = np.sqrt(np.maximum(found.explained_variance_, 1e-6 * found.explained_variance_[0]))
        made.scale_K.copy_(torch.from_numpy(np.maximum(spread, 1e-12).astype(np.float32)))
        return made

    def leading(self, components: int) -> Components:
        """The first of them."""
        made = Components(len(self.mean_D), components)
        made.mean_D, made.basis_KD, made.scale_K = self.mean_D, self.basis_KD[:components], self.scale_K[:components]
        return made

    def forward(self, samples_MD: torch.Tensor) -> torch.Tensor:
        """(M, K)."""
        return (samples_MD - self.mean_D) @ self.basis_KD.T / self.scale_K


class Head(nn.Module):
    """Unit vectors of length 128 from frozen features: a linear map of the components, and a small network beside it.

    hidden: width of that network, whose last layer begins at zero; 0: the linear map alone, which overfits least.
    dropout: of components, in training. seed: of the first weights.
    """

    def __init__(self, components: Components, *, hidden: int, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.components = components
        self.inputs = len(components.scale_K)
        self.dropout = dropout
        self.beside: nn.Module | None = None
        with seeded(seed):
            self.linear = nn.Linear(self.inputs, WIDTH)
            if hidden:
                last = nn.Linear(hidden, WIDTH)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
                self.beside = nn.Sequential(nn.Linear(self.inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), last)

    @torch.no_grad()
    def begin_at(self, map_LK: npt.NDArray[np.float64], mean_K: npt.NDArray[np.float64]) -> None:
        """Make the linear map this one, L <= 128, after `mean_K` is taken off; further features begin at zero."""
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        self.linear.weight[: len(map_LK)] = torch.from_numpy(map_LK).float()
        self.linear.bias[: len(map_LK)] = torch.from_numpy(-map_LK @ mean_K).float()

    def trained(self) -> list[nn.Parameter]:
        """What training changes."""
        return [*self.linear.parameters(), *(self.beside.parameters() if self.beside is not None else ())]

    def forward(self, samples_MD: torch.Tensor) -> torch.Tensor:
        """(M, E) unit rows."""
        return self.from_components(self.components(samples_MD))

    def from_components(self, component_MK: torch.Tensor, *, draw: torch.Generator | None = None) -> torch.Tensor:
        """(M, E) unit rows, from what `components` gave. draw: of the dropout, in training."""
        if self.training and self.dropout:
            kept = torch.rand(component_MK.shape, generator=draw) >= self.dropout
            component_MK = component_MK * kept / (1 - self.dropout)
        feature_ME = self.linear(component_MK)
        if self.beside is not None:
            feature_ME = feature_ME + self.beside(component_MK)
        return F.normalize(feature_ME, dim=1)

    @torch.no_grad()
    def project(self, samples_MD: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """(M, E) unit rows of samples that may be mapped from disk; block by block."""
        self.eval()
        blocks = (samples_MD[first : first + _BLOCK_ROWS] for first in range(0, len(samples_MD), _BLOCK_ROWS))
        parts = [self(torch.from_numpy(np.array(block, np.float32))).numpy() for block in blocks]
        return np.concatenate(parts) if parts else np.zeros((0, WIDTH), np.float32)


def supervised_contrastive(unit_MD: torch.Tensor, patient_M: torch.Tensor, *, temperature: float = 0.1) -> torch.Tensor:
    """Supervised contrastive loss (`echofm.loss.contrastive`): a scalar, the mean over samples with a partner.

    unit_MD: rows of length one. patient_M: integers, equal for samples that belong together. A sample that has no
    partner is a negative of the others and no anchor. Raises EchofmError where no two samples belong together.
    """
    same_MM = patient_M[:, None] == patient_M
    itself_MM = torch.eye(len(unit_MD), dtype=torch.bool, device=unit_MD.device)
    contrast = info_nce(unit_MD, unit_MD, same_QK=same_MM, itself_QK=itself_MM, temperature=temperature)
    anchor_M = contrast.positives_Q > 0
    if not anchor_M.any():
        raise EchofmError("no two samples of a batch belong to one patient; a contrastive loss needs pairs")
    return contrast.loss_Q[anchor_M].mean()


class SiamesePairs(nn.Module):
    """Same patient or not, from the absolute difference of two samples' features: a logistic layer on |f1 - f2|.

    As in EchoNet-Synthetic's and EchoFlow's re-identification model (arXiv 2406.00808, 2503.22357); trained by binary
    cross-entropy on equally many pairs of either kind.
    """

    def __init__(self, width: int, *, seed: int = 0) -> None:
        super().__init__()
        with seeded(seed):
            self.same = nn.Linear(width, 1)

    def forward(self, first_PD: torch.Tensor, second_PD: torch.Tensor) -> torch.Tensor:
        """(P,) logits that both belong to one patient."""
        return self.same((first_PD - second_PD).abs())[:, 0]

    def loss(self, features_MD: torch.Tensor, patient_M: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        """Binary cross-entropy over each sample with one drawn partner and one drawn stranger.

        Raises EchofmError where no sample has a partner or none has a stranger.
        """
        first, second, same = drawn_pairs(patient_M, draw)
        return F.binary_cross_entropy_with_logits(self(features_MD[first], features_MD[second]), same)


def drawn_pairs(patient_M: torch.Tensor, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices of P first and P second samples, and 1.0 where both are of one patient, else 0.0; half of them are."""
    same_MM = patient_M[:, None] == patient_M[None, :]
    partner_MM = same_MM & ~torch.eye(len(patient_M), dtype=torch.bool)
    usable = torch.nonzero(partner_MM.any(1) & (~same_MM).any(1))[:, 0]
    if len(usable) == 0:
        raise EchofmError("no sample of a batch has both a partner and a stranger; the pairs need two patients")
    partner = torch.multinomial(partner_MM[usable].double(), 1, generator=draw)[:, 0]
    stranger = torch.multinomial((~same_MM)[usable].double(), 1, generator=draw)[:, 0]
    same = torch.cat([torch.ones(len(usable)), torch.zeros(len(usable))])
    return usable.repeat(2), torch.cat([partner, stranger]), same
