"""What is measured on held-out clips while an autoencoder is trained.

B clips, T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import ClipBatch
from echofm.engine.parallel import joined_rows, own_share
from echofm.engine.task import Figure
from echofm.loss.kl import kl_to_normal
from echofm.metric.pixel import psnr_db
from synth.latent.autoencoder import Autoencoder

_CLIPS_AT_ONCE, _SHOWN = 4, 2


class Validation:
    """Figures and a picture of held-out clips, fitted to the network, the same each time."""

    def __init__(self, batch: ClipBatch) -> None:
        self._batch = batch

    def __call__(self, net: Autoencoder) -> Mapping[str, Figure]:
        """Measure a network in evaluation mode; every process calls it, and does its share.

        psnr_db: of reconstructions from the posterior's mean, the mean over clips. kl_nats: of a frame.
        latent_std: over all latents.
        """
        share, rows, picture = own_share(len(self._batch)), [], None
        for first in range(share.start, share.stop, _CLIPS_AT_ONCE):
            part = self._batch[first : min(first + _CLIPS_AT_ONCE, share.stop)]
            video_BCTHW = part.to(net.mean_C.device).video_BCTHW
            found, back_BCTHW = _reconstructed(net, video_BCTHW)
            rows.append(found)
            picture = _sheet(video_BCTHW, back_BCTHW) if picture is None else picture
        own = {name: torch.cat([each[name] for each in rows]) for name in rows[0]} if rows else {}
        joined = joined_rows(own)
        figures: dict[str, Figure] = {
            "psnr_db": float(joined["psnr_db_B"].mean()),
            "kl_nats": float(joined["kl_B"].mean()),
            "latent_std": float(joined["square_B"].mean().sqrt()),
        }
        return figures if picture is None else {**figures, "reconstruction": picture}


def _reconstructed(net: Autoencoder, video_BCTHW: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    clips = len(video_BCTHW)
    frames_NCHW = video_BCTHW.transpose(1, 2).flatten(0, 1)
    mean, logvar = net.posterior(net.seen(frames_NCHW))
    back_BCTHW = net.shown(net.output(mean)).clamp(0, 1).unflatten(0, (clips, -1)).transpose(1, 2)
    rows = {
        "psnr_db_B": psnr_db(back_BCTHW, video_BCTHW),
        "kl_B": kl_to_normal(mean, logvar).unflatten(0, (clips, -1)).mean(1),
        "square_B": mean.square().unflatten(0, (clips, -1)).flatten(1).mean(1),
    }
    return rows, back_BCTHW


def _sheet(video_BCTHW: torch.Tensor, back_BCTHW: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Of each clip a row of frames as they are, one as reconstructed, one of the fourfold difference on mid-grey."""
    difference = (0.5 + 4 * (back_BCTHW - video_BCTHW)).clamp(0, 1)
    strips_BSTHW = torch.stack([video_BCTHW, back_BCTHW, difference], 1)[:_SHOWN, :, 0].cpu()
    picture_HW = strips_BSTHW.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(0, 2)
    return (picture_HW[..., None].expand(-1, -1, 3) * 255).round().byte().numpy()
