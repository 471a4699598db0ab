"""What a prediction of the middle frame costs, a number for each pair, so that no sum depends on how a batch is cut.

B pairs, H rows, W columns, h = H / 2, w = W / 2, E numbers of an identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synth.mafe.pyramid import laplacian_pyramid, most_levels


def reconstruction(
    pred_BCHW: torch.Tensor, parts: Sequence[torch.Tensor], truth_BCHW: torch.Tensor, *, lowest: bool
) -> torch.Tensor:
    """(B,) pyramid distance of the prediction, and half that of each part (blends, warped ends).

    lowest: with the lowest octave, without which brightness costs nothing (as published).
    """
    images = [pred_BCHW, *parts]
    levels = most_levels(truth_BCHW.shape[-1])
    # All at once: the truth's pyramid is the same for each.
    truth = laplacian_pyramid(truth_BCHW, levels=levels, lowest=lowest)
    found = laplacian_pyramid(torch.stack(images, 1).flatten(0, 1), levels=levels, lowest=lowest)
    weight_P = truth_BCHW.new_tensor([1.0, *[0.5] * len(parts)])
    octaves = [
        ((one.unflatten(0, (-1, len(images))) - other[:, None]).abs().mean((2, 3, 4)) * weight_P).sum(1)
        for one, other in zip(found, truth)
    ]
    return torch.stack(octaves).sum(0)


def flow_distance(flow_B4hw: torch.Tensor, teacher_B4hw: torch.Tensor, sector_BHW: torch.Tensor) -> torch.Tensor:
    """(B,) mean distance of the arrows from the teacher's, pixels, inside the sector; both flows together."""
    inside_Bhw = torch.nn.functional.max_pool2d(sector_BHW[:, None].float(), 2)[:, 0]
    # Where the two agree the root has no slope.
    away_B2hw = ((flow_B4hw - teacher_B4hw).unflatten(1, (2, 2)).square().sum(2) + 1e-6).sqrt()
    return (away_B2hw.mean(1) * inside_Bhw).sum((1, 2)) / inside_Bhw.sum((1, 2)).clamp(min=1)


def identity_distance(given: Sequence[torch.Tensor], identity_BE: torch.Tensor) -> torch.Tensor:
    """(B,) one less the cosine of `given`, made of each frame's appearance (B, E), and the teacher's of the clip.

    0 where the teacher has none.
    """
    known_B = identity_BE.square().sum(1) > 0
    cosines = [torch.nn.functional.cosine_similarity(each, identity_BE, dim=1) for each in given]
    return (1 - torch.stack(cosines).mean(0)) * known_B
