"""What is measured on held-out clips while training, with a loud word where the encoder learns no heart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import ClipBatch
from echofm.engine.parallel import joined_rows, own_share, processes
from echofm.engine.task import Figure
from echofm.loss.periodic import cosine_similarity, pixel_prior
from echofm.metric.collapse import embedding_std, rankme
from echofm.metric.cycle import contrast_figures, phase_contrast, position_share, prior_correlation, token_phase
from echofm.model.mae import VideoMae
from echofm.model.picture import reconstruct, sheet
from echofm.progress import console

# A living cycle needs two directions (it is a ring); these are far below any run that went well.
_COLLAPSED_RANK, _COLLAPSED_STD = 1.5, 0.01
# Runs on a first plateau had 0.96 to 1.00, those that learnt the heart 0.01 to 0.47 (benchmarks/results-phantom.md).
_ONLY_POSITIONS = 0.9
_CLIPS_AT_ONCE = 4
_COLLAPSE = (
    "[bold white on red] COLLAPSE [/] step {step}: every time point of every clip looks alike to the encoder (rank "
    "{rankme:.2f}, embedding_std {embedding_std:.4f}). Lower --fit.optim.base-lr, lengthen --fit.optim.warmup-steps, "
    "take --objective.prior.kind pixel, or, where features are predicted, raise --fit.ema-decay"
)
_NO_HEART = (
    "[bold black on yellow] NO HEART YET [/] step {step}: {position_share:.0%} of what tells a clip's time points "
    "apart is their position in the window. If this lasts, take --network.phase-centre 0.9 where it is less, lower "
    "--fit.optim.base-lr, lengthen --fit.optim.warmup-steps, or begin from a trained encoder (--init)"
)


class Validation:
    """Figures and a picture of held-out clips, fitted to the model, the same each time; real ones have no phase."""

    def __init__(self, batch: ClipBatch) -> None:
        self._batch = batch
        self._knew_positions_only = False

    def __call__(self, model: VideoMae, step: int) -> Mapping[str, Figure]:
        """Measure a model in evaluation mode; every process calls it, and does its share."""
        share = own_share(len(self._batch))
        firsts = range(share.start, share.stop, _CLIPS_AT_ONCE)
        parts = [_rows_of(model, self._batch[first : min(first + _CLIPS_AT_ONCE, share.stop)]) for first in firsts]
        own = {name: torch.cat([rows[name] for rows, _ in parts]) for name in parts[0][0]} if parts else {}
        figures = figures_of(joined_rows(own))
        # An untrained model may look collapsed; it is no news.
        figures["collapsed"] = float(step > 0 and collapsed(figures))
        wants_phase = model.objective.triplet.weight > 0 or model.objective.cycle.weight > 0
        positions_only = step > 0 and wants_phase and figures["position_share"] > _ONLY_POSITIONS
        if processes().is_main_process:
            # Every run knows positions alone at first; one that still does at the next measurement may stay so.
            warn(figures, step, positions_only=positions_only and self._knew_positions_only)
        self._knew_positions_only = positions_only
        return {**figures, **({"reconstruction": parts[0][1]} if parts else {})}


def _rows_of(model: VideoMae, part: ClipBatch) -> tuple[dict[str, torch.Tensor], npt.NDArray[np.uint8]]:
    """One row a clip of what the figures are made of, and the first clips as reconstructed (H, W, 3)."""
    batch = part.to(next(model.parameters()).device)
    encoding, tubelet = model.encode(batch.video_BCTHW), model.encoder.tubelet
    similarity_BTT = cosine_similarity(encoding.phase_BTD.float()).cpu()
    prior_BTT = pixel_prior(batch.video_BCTHW, tubelet=tubelet).cpu()
    phase_BT = None if part.phase_BT is None else token_phase(part.phase_BT, tubelet=tubelet)
    reconstruction = reconstruct(model, batch.video_BCTHW, batch.draw_B, sector_BHW=batch.sector_BHW)
    rows = {
        "correlation_B": prior_correlation(similarity_BTT, prior_BTT),
        "contrast_B": phase_contrast(similarity_BTT, prior_BTT=prior_BTT, phase_BT=phase_BT),
        "phase_BTD": encoding.phase_BTD.float().cpu(),
        "video_BD": encoding.video_BD.float().cpu(),
        "psnr_db_B": reconstruction.psnr_db_B.cpu(),
    }
    return rows, sheet(reconstruction)


def figures_of(rows: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Means over the clips (echofm.metric.cycle); rankme, embedding_std: of all phase vectors."""
    phase_BTD = rows["phase_BTD"]
    return {
        "prior_correlation": float(rows["correlation_B"].nanmean()),
        **contrast_figures(rows["contrast_B"]),
        "position_share": position_share(phase_BTD),
        "rankme": rankme(phase_BTD.flatten(0, 1)),
        "embedding_std": embedding_std(phase_BTD.flatten(0, 1)),
        "video_rankme": rankme(rows["video_BD"]),
        "psnr_db": float(rows["psnr_db_B"].mean()),
    }


def collapsed(figures: Mapping[str, float]) -> bool:
    """Whether all time points of all clips are embedded alike."""
    return figures["rankme"] < _COLLAPSED_RANK or figures["embedding_std"] < _COLLAPSED_STD


def warn(figures: Mapping[str, float], step: int, *, positions_only: bool) -> None:
    """Say it so that nobody overlooks it: all looks alike, or all that is known is how far apart time points are."""
    if figures["collapsed"]:
        console.print(_COLLAPSE.format(step=step, **figures), highlight=False)
    if positions_only:
        console.print(_NO_HEART.format(step=step, **figures), highlight=False)
