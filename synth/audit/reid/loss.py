"""What a re-identification head is trained to do: bring a patient's samples together and part those of others.

M samples, D features of a sample, P pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from echofm.backbones.frozen import seeded
from echofm.errors import EchofmError
from echofm.loss.contrastive import info_nce


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
