"""What the decoder makes of hidden tubelets, put back as frames.

Shapes: B clips, C channels, T frames, F predicted frames, H rows, W columns; N tokens, V values of a target tubelet.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.loss.pixel import median_filtered, target_frames
from echofm.model.mae import VideoMae
from echofm.model.tokens import Grid, cut

_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """The predicted frames of some clips, values in [0, 1].

    frames_F: which frames of the clip these are.
    target_BCFHW: as they are (median-filtered where the model's target is). seen_BCFHW: hidden tubelets in mid-grey.
    filled_BCFHW: hidden tubelets as predicted, the visible ones as they are.
    psnr_db_B: peak signal-to-noise ratio over the hidden tubelets.
    A normalised prediction gets its tubelet's true mean and deviation back, as in arXiv 2111.06377, figure 2: what is
    shown and measured is the texture, given the brightness.
    """

    frames_F: torch.Tensor
    target_BCFHW: torch.Tensor
    seen_BCFHW: torch.Tensor
    filled_BCFHW: torch.Tensor
    psnr_db_B: torch.Tensor


@torch.no_grad()
def reconstruct(
    model: VideoMae, video_BCTHW: torch.Tensor, draw_B: torch.Tensor, *, sector_BHW: torch.Tensor
) -> Reconstruction:
    """Hide what `draw_B` says and predict it."""
    with _decoding_all(model):
        output = model(video_BCTHW, sector_BHW=sector_BHW, draw_B=draw_B)
    grid = model.encoder.grid(video_BCTHW)
    network, target = model.config, model.objective.reconstruction
    per_time, patch = network.predicted_frames // network.times, network.patch
    frames_F = target_frames(video_BCTHW.shape[2], grid.time * per_time).to(video_BCTHW.device)
    shown = median_filtered(video_BCTHW) if target.median_target else video_BCTHW
    target_BNV = cut(shown[:, :, frames_F], tubelet=per_time, patch=patch, channels_last=True)
    pred_BNV = output.pred_BPV.float()
    if target.normalised_target:
        variance, mean = torch.var_mean(target_BNV, dim=-1, keepdim=True)
        pred_BNV = pred_BNV * (variance + _EPS).sqrt() + mean
    pred_BNV = pred_BNV.clamp(0, 1)
    hidden_BN1 = torch.ones(target_BNV.shape[:2], dtype=torch.bool, device=target_BNV.device)
    hidden_BN1 = hidden_BN1.scatter(1, output.visible_BK, False)[..., None]
    error_B = ((pred_BNV - target_BNV).square() * hidden_BN1).sum((1, 2)) / hidden_BN1.sum((1, 2))
    error_B = error_B / target_BNV.shape[2]
    frames_of = functools.partial(joined, grid=grid, patch=patch, per_time=per_time)
    return Reconstruction(
        frames_F=frames_F,
        target_BCFHW=frames_of(target_BNV),
        seen_BCFHW=frames_of(target_BNV.masked_fill(hidden_BN1, 0.5)),
        filled_BCFHW=frames_of(torch.where(hidden_BN1, pred_BNV, target_BNV)),
        psnr_db_B=-10 * error_B.clamp(min=1e-12).log10(),
    )


@contextmanager
def _decoding_all(model: VideoMae) -> Iterator[None]:
    """Within the block the model decodes every hidden tubelet, also where training decodes a part of them."""
    masking = model.masking
    model.masking = masking.model_copy(update={"decode_ratio": 1.0})
    try:
        yield
    finally:
        model.masking = masking


def joined(tubelets_BNV: torch.Tensor, *, grid: Grid, patch: int, per_time: int) -> torch.Tensor:
    """Frames (B, C, F, H, W) from their tubelets, whose values run over (frame, row, column, channel)."""
    axes = tubelets_BNV.unflatten(2, (per_time, patch, patch, -1)).unflatten(1, tuple(grid))
    # B time rows columns s p q C -> B C time s rows p columns q
    frames = axes.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return frames.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def sheet(reconstruction: Reconstruction, *, clips: int = 2, columns: int = 6) -> npt.NDArray[np.uint8]:
    """One picture (H, W, 3): for each clip a row of frames as they are, one as seen, one as filled in."""
    chosen_F = torch.linspace(0, len(reconstruction.frames_F) - 1, min(columns, len(reconstruction.frames_F))).long()
    kinds = (reconstruction.target_BCFHW, reconstruction.seen_BCFHW, reconstruction.filled_BCFHW)
    strips_BSCFHW = torch.stack(kinds, dim=1)[:clips, :, :, chosen_F.to(kinds[0].device)].cpu()
    # Clips and strips one below the other, frames side by side.
    picture_HWC = strips_BSCFHW.permute(0, 1, 4, 3, 5, 2).flatten(3, 4).flatten(0, 2)
    return (picture_HWC.expand(-1, -1, 3) * 255).round().byte().numpy()
