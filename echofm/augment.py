"""Batches on the device: brought to a model's size and channels, and varied as scanners and operators vary them.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from echofm.acoustic import KINDS, perturbed
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.draws import Stream, uniform

# Of a pixel that hardly any of the sector reaches: it has no number.
_NO_WEIGHT = 1e-3


def fit_to(batch: ClipBatch, contract: InputContract) -> ClipBatch:
    """Resize all that a batch holds of its frames and repeat grey over the channels, as the contract asks.

    Frames are resized antialiased, classes by the nearest pixel; displacement is then in pixels of the new size.
    """
    if batch.video_BCTHW.shape[-1] != contract.size:
        batch = _resized(batch, contract.size)
    if batch.video_BCTHW.shape[1] == 1 and contract.repeats_grey:
        batch = replace(batch, video_BCTHW=batch.video_BCTHW.expand(-1, 3, -1, -1, -1))
    return batch


def _resized(batch: ClipBatch, size: int) -> ClipBatch:
    sector_B1HW = batch.sector_BHW[:, None].float()
    done: dict[str, Any] = {"sector_BHW": F.interpolate(sector_B1HW, (size, size), mode="area")[:, 0] > 0.5}
    for name in ("video_BCTHW", "paired_BCTHW", "clean_BCTHW"):
        if (video := getattr(batch, name)) is not None:
            done[name] = _smooth(video, size).clamp_(0, 1)
    if batch.beam_B2HW is not None:
        done["beam_B2HW"] = _smooth(batch.beam_B2HW, size)
    if batch.mask_BTHW is not None:
        done["mask_BTHW"] = F.interpolate(batch.mask_BTHW.float(), (size, size), mode="nearest-exact").byte()
    # The nothing outside the sector has no weight in the means of what is inside; a frame without a field has NaN.
    weight_B1HW = _smooth(sector_B1HW, size)
    for name, scale in (("displacement_px_BT2HW", size / sector_B1HW.shape[-1]), ("velocity_m_per_s_BTHW", 1)):
        if (field := getattr(batch, name)) is not None:
            weight = weight_B1HW if field.ndim == 4 else weight_B1HW[:, None]
            inside = sector_B1HW if field.ndim == 4 else sector_B1HW[:, None]
            total = _smooth(torch.where(inside > 0, field, 0 * field[..., :1, :1]), size)
            done[name] = torch.where(weight > _NO_WEIGHT, total * scale / weight, 0 * total)
    return replace(batch, **done)


def _smooth(values: torch.Tensor, size: int) -> torch.Tensor:
    """(..., H, W) antialiased, by a triangle."""
    planes = values.flatten(0, -4) if values.ndim > 4 else values
    planes = F.interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return planes.unflatten(0, values.shape[:-3]) if values.ndim > 4 else planes


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


def vary_acoustics(batch: ClipBatch, *, most: float) -> ClipBatch:
    """Each kind of `echofm.acoustic` with probability one half, its strength uniform in [0, most]; by `beam_B2HW`."""
    if not most:
        return batch
    assert batch.beam_B2HW is not None, "the batch must carry `beam`"
    drawn_B2K = uniform(batch.draw_B, 2, len(KINDS), stream=Stream.ACOUSTIC_VIEW)
    strength_BK = most * drawn_B2K[:, 1] * (drawn_B2K[:, 0] < 0.5)
    varied = perturbed(
        batch.video_BCTHW,
        beam_B2HW=batch.beam_B2HW,
        sector_BHW=batch.sector_BHW,
        draw_B=batch.draw_B,
        strength={kind: strength_BK[:, number] for number, kind in enumerate(KINDS)},
    )
    return replace(batch, video_BCTHW=varied)
