"""What the monitor measures: does the embedding follow the heart cycle? Pure functions.

Shapes: B clips, T time indices, D width.
"""

from __future__ import annotations

import math

import torch

from echofm.metric.circular import circular_distance

# Phases closer than an eighth of a cycle are the same moment, further than three eighths the opposite one.
_SAME_CYCLE, _OPPOSITE_CYCLE = 1 / 8, 3 / 8
_QUARTER = 0.25


def prior_correlation(similarity_BTT: torch.Tensor, prior_BTT: torch.Tensor) -> torch.Tensor:
    """(B,) Pearson correlation of the two similarities over a clip's pairs of different time indices, in [-1, 1].

    NaN where either is constant.
    """
    upper = _pairs(similarity_BTT.shape[1], apart=0)
    x_BP, y_BP = similarity_BTT[:, upper].double(), prior_BTT[:, upper].double()
    x_BP, y_BP = x_BP - x_BP.mean(1, keepdim=True), y_BP - y_BP.mean(1, keepdim=True)
    return (x_BP * y_BP).sum(1) / (x_BP.square().sum(1) * y_BP.square().sum(1)).sqrt()


def phase_contrast(
    similarity_BTT: torch.Tensor, *, prior_BTT: torch.Tensor, phase_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """(B,) mean similarity of same-phase pairs minus that of opposite-phase pairs, in [-2, 2].

    Pairs are of time indices that are no neighbours (i < j - 1), so that mere slowness of change earns nothing. With
    `d` the circular distance of the true phases (cycles, [0, 0.5]) "same" is d <= 1/8 and "opposite" d >= 3/8; where
    a clip has no true phase (`phase_BT` None or NaN), "same" is the quarter of its pairs with the highest prior and
    "opposite" that with the lowest. NaN where a clip has no pair of one sort, as when it shows less than a cycle.
    """
    far = _pairs(similarity_BTT.shape[1], apart=1)
    similarity_BP, prior_BP = similarity_BTT[:, far].double(), prior_BTT[:, far].double()
    rank_BP = prior_BP.argsort(1).argsort(1) / prior_BP.shape[1]
    same_BP, opposite_BP = rank_BP >= 1 - _QUARTER, rank_BP < _QUARTER
    if phase_BT is not None:
        distance_BP = circular_distance(phase_BT[:, :, None], phase_BT[:, None, :])[:, far]
        true_B1 = phase_BT.isfinite().all(1, keepdim=True)
        same_BP = torch.where(true_B1, distance_BP <= _SAME_CYCLE, same_BP)
        opposite_BP = torch.where(true_B1, distance_BP >= _OPPOSITE_CYCLE, opposite_BP)
    return _mean_where(similarity_BP, same_BP) - _mean_where(similarity_BP, opposite_BP)


def contrast_figures(contrast_B: torch.Tensor) -> dict[str, float]:
    """Of the clips whose phase contrast is known: its mean, its minimum, and the share where it is positive."""
    known = contrast_B[contrast_B.isfinite()]
    return {
        "phase_contrast": float(known.mean()),
        "phase_contrast_min": float(known.min()) if len(known) else math.nan,
        "phase_contrast_positive": float((known > 0).double().mean()),
    }


def position_share(phase_BTD: torch.Tensor) -> float:
    """Part, in [0, 1], of what tells a clip's time points apart that is their position in the window.

    The variance over time of the mean vector of each time index over that of the vectors about their clip's mean, both
    less what B clips beating out of step would give. Similarity falls with the distance in time in every clip, so an
    encoder with positions may learn that alone: near 1 it knows no heart. NaN where nothing moves.
    """
    about_BTD = phase_BTD.double() - phase_BTD.double().mean(1, keepdim=True)
    by_chance = about_BTD.square().sum((1, 2)).mean() / len(about_BTD)
    of_places, of_all = about_BTD.mean(0).square().sum(), by_chance * len(about_BTD)
    return float(((of_places - by_chance) / (of_all - by_chance)).clamp(min=0))


def token_phase(phase_BF: torch.Tensor, *, tubelet: int) -> torch.Tensor:
    """(B, T) phase of each time index: the circular mean over its frames; NaN where one of them is unknown."""
    angle_BTS = phase_BF.unflatten(1, (-1, tubelet)) * (2 * torch.pi)
    return torch.atan2(angle_BTS.sin().mean(2), angle_BTS.cos().mean(2)) / (2 * torch.pi) % 1


def _pairs(times: int, *, apart: int) -> torch.Tensor:
    """(T, T) bool: j > i + apart."""
    index = torch.arange(times)
    return index[None, :] > index[:, None] + apart


def _mean_where(x_BP: torch.Tensor, chosen_BP: torch.Tensor) -> torch.Tensor:
    return (x_BP * chosen_BP).sum(1) / chosen_BP.sum(1)
