"""Batches on the device: brought to a model's size and channels, and varied as scanners and operators vary them.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F

from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.draws import Stream, uniform


def fit_to(batch: ClipBatch, contract: InputContract) -> ClipBatch:
    """Resize frames and sectors (antialiased) and repeat grey over the channels, as the contract asks."""
    video_BCTHW, sector_BHW = batch.video_BCTHW, batch.sector_BHW
    if video_BCTHW.shape[-1] != contract.size:
        size = (contract.size, contract.size)
        frames = video_BCTHW.flatten(0, 1)
        frames = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False)
        video_BCTHW = frames.clamp_(0, 1).unflatten(0, video_BCTHW.shape[:2])
        sector_BHW = F.interpolate(sector_BHW[:, None].float(), size, mode="area")[:, 0] > 0.5
    if video_BCTHW.shape[1] == 1 and contract.repeats_grey:
        video_BCTHW = video_BCTHW.expand(-1, 3, -1, -1, -1)
    return replace(batch, video_BCTHW=video_BCTHW, sector_BHW=sector_BHW)


def vary_grey(batch: ClipBatch, *, gain: float, contrast: float) -> ClipBatch:
    """min(1, g * x^c), g uniform in [1 - gain, 1 + gain] and log2 c in [-contrast, contrast], one draw a clip.

    Black stays black, so nothing appears outside the sector. No flips: left and right mean something in a heart.
    """
    if not (gain or contrast):
        return batch
    uniform_B2 = 2 * uniform(batch.draw_B, 2, stream=Stream.LOOK) - 1
    factor_B, exponent_B = 1 + gain * uniform_B2[:, 0], 2 ** (contrast * uniform_B2[:, 1])
    per_clip = (-1, 1, 1, 1, 1)
    varied = batch.video_BCTHW.pow(exponent_B.float().view(per_clip)).mul_(factor_B.float().view(per_clip))
    return replace(batch, video_BCTHW=varied.clamp_(max=1))
