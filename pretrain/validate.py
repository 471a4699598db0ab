"""What is measured on held-out clips while training, and what is said aloud where the encoder learns no heart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from echofm.augment import fit_to
from echofm.contract import InputContract
from echofm.engine.held_out import HeldOut
from echofm.engine.parallel import joined_rows, own_share, processes
from echofm.engine.task import Figure
from echofm.loss.periodic import cosine_similarity, pixel_prior
from echofm.metric.collapse import embedding_std, rankme
from echofm.metric.cycle import phase_contrast, position_share, prior_correlation, token_phase
from echofm.model.mae import VideoMae
from echofm.model.picture import reconstruct, sheet
from echofm.progress import console

# A living cycle needs two directions (it is a ring); these are far below any run that went well.
_COLLAPSED_RANK, _COLLAPSED_STD = 1.5, 0.01
# Runs on a first plateau had 0.96 to 1.00, those that learnt the heart 0.01 to 0.47 (benchmarks/results-phantom.md).
_ONLY_POSITIONS = 0.9
_CLIPS_AT_ONCE = 4


class Validation:
    """Figures and a picture of held-out clips, with a loud word where all looks alike to the encoder."""

    def __init__(self, held_out: HeldOut, contract: InputContract) -> None:
        self._held_out = replace(held_out, batch=fit_to(held_out.batch, contract))
        self._knew_positions_only = False

    def __call__(self, model: VideoMae, step: int) -> Mapping[str, Figure]:
        """Measure a model in evaluation mode; every process calls it."""
        rows, pictures = measure(model, self._held_out)
        figures = figures_of(joined_rows(rows))
        # An untrained model may look collapsed; it is no news.
        figures["collapsed"] = float(step > 0 and collapsed(figures))
        wants_phase = model.objective.triplet.weight > 0 or model.objective.cycle.weight > 0
        positions_only = step > 0 and wants_phase and figures["position_share"] > _ONLY_POSITIONS
        if processes().is_main_process:
            if figures["collapsed"]:
                warn_of_collapse(figures, step)
            # Every run passes through it; one that is still there at the next measurement may stay.
            if positions_only and self._knew_positions_only:
                warn_of_positions(figures["position_share"], step)
        self._knew_positions_only = positions_only
        return {**figures, **pictures}


def measure(model: VideoMae, held_out: HeldOut) -> tuple[dict[str, torch.Tensor], dict[str, npt.NDArray[np.uint8]]]:
    """One row a clip of what the figures are made of, and the first clips as reconstructed (H, W, 3).

    Of this process's share of the clips; nothing where it has none.
    """
    device = next(model.parameters()).device
    share = own_share(len(held_out.batch))
    rows: dict[str, list[torch.Tensor]] = defaultdict(list)
    pictures: dict[str, npt.NDArray[np.uint8]] = {}
    for first in range(share.start, share.stop, _CLIPS_AT_ONCE):
        part = slice(first, min(first + _CLIPS_AT_ONCE, share.stop))
        batch = held_out.batch[part].to(device)
        video_BCTHW = batch.video_BCTHW
        encoding = model.encode(video_BCTHW)
        similarity_BTT = cosine_similarity(encoding.phase_BTD.float()).cpu()
        prior_BTT = pixel_prior(video_BCTHW, tubelet=model.encoder.tubelet).cpu()
        phase_BT = token_phase(held_out.phase_BF[part], tubelet=model.encoder.tubelet)
        reconstruction = reconstruct(model, video_BCTHW, batch.draw_B, sector_BHW=batch.sector_BHW)
        rows["correlation_B"].append(prior_correlation(similarity_BTT, prior_BTT))
        rows["contrast_B"].append(phase_contrast(similarity_BTT, prior_BTT=prior_BTT, phase_BT=phase_BT))
        rows["phase_BTD"].append(encoding.phase_BTD.float().cpu())
        rows["video_BD"].append(encoding.video_BD.float().cpu())
        rows["psnr_db_B"].append(reconstruction.psnr_db_B.cpu())
        if not pictures:
            pictures["reconstruction"] = sheet(reconstruction)
    return {name: torch.cat(parts) for name, parts in rows.items()}, pictures


def figures_of(rows: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Means over the clips, and figures of all their vectors.

    prior_correlation, phase_contrast, position_share: see echofm.metric.cycle. phase_contrast_min: of all clips.
    phase_contrast_positive: share of the clips where it is. psnr_db: of hidden tubelets. rankme, embedding_std: of all
    phase vectors. video_rankme: of the clip vectors.
    """
    contrast_B, phase_BTD = rows["contrast_B"], rows["phase_BTD"]
    known = contrast_B[contrast_B.isfinite()]
    return {
        "prior_correlation": float(rows["correlation_B"].nanmean()),
        "phase_contrast": float(known.mean()),
        "phase_contrast_min": float(known.min()) if len(known) else math.nan,
        "phase_contrast_positive": float((known > 0).double().mean()),
        "position_share": position_share(phase_BTD),
        "rankme": rankme(phase_BTD.flatten(0, 1)),
        "embedding_std": embedding_std(phase_BTD.flatten(0, 1)),
        "video_rankme": rankme(rows["video_BD"]),
        "psnr_db": float(rows["psnr_db_B"].mean()),
    }


def collapsed(figures: Mapping[str, float]) -> bool:
    """Whether all time points of all clips are embedded alike."""
    return figures["rankme"] < _COLLAPSED_RANK or figures["embedding_std"] < _COLLAPSED_STD


def warn_of_collapse(figures: Mapping[str, float], step: int) -> None:
    """Say it so that nobody overlooks it."""
    console.print(
        f"[bold white on red] COLLAPSE [/] step {step}: every time point of every clip looks alike to the encoder "
        f"(rank {figures['rankme']:.2f}, embedding_std {figures['embedding_std']:.4f}). Lower --fit.optim.base-lr, "
        "lengthen --fit.optim.warmup-steps, or take --objective.prior.kind pixel",
        highlight=False,
    )


def warn_of_positions(share: float, step: int) -> None:
    """Tell of an encoder that has learnt how far apart time points are, and nothing of the heart."""
    console.print(
        f"[bold black on yellow] NO HEART YET [/] step {step}: {share:.0%} of what tells a clip's time points apart is "
        "their position in the window. If this lasts, take --network.phase-centre 0.9 where it is less, lower "
        "--fit.optim.base-lr, lengthen --fit.optim.warmup-steps, or begin from a trained encoder (--init)",
        highlight=False,
    )
