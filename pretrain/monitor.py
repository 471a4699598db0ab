"""The monitor: figures and a picture on held-out clips every n steps, and a loud word when the embedding collapses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip, ClipBatch
from echofm.contract import InputContract
from echofm.engine.task import Figure
from echofm.errors import EchofmError
from echofm.loss.periodic import cosine_similarity, pixel_prior
from echofm.metric.collapse import embedding_std, rankme
from echofm.metric.cycle import phase_contrast, position_share, prior_correlation, token_phase
from echofm.model.mae import VideoMae
from echofm.model.picture import reconstruct, sheet
from echofm.progress import console
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet
from echofm.window import even_starts_s, window_indices
from pretrain.hooks import Hook, Snapshot
from pretrain.task import fit_to

# A living cycle needs two directions (it is a ring); these are far below any run that went well.
_COLLAPSED_RANK, _COLLAPSED_STD = 1.5, 0.01
# Runs on a first plateau had 0.96 to 1.00, those that learnt the heart 0.01 to 0.47 (benchmarks/results-phantom.md).
_ONLY_PLACES = 0.9
_CLIPS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The held-out windows that are measured, the same each time.

    batch: fitted to the model, on the CPU. phase_BF: true phase of each frame in [0, 1), NaN where unknown.
    """

    batch: ClipBatch
    phase_BF: torch.Tensor

    @classmethod
    def of(cls, shards: ShardSet, contract: InputContract, *, clips: int) -> HeldOut:
        """The middle window of clips evenly spread over a split. Raises EchofmError where it is empty."""
        if not len(shards):
            raise EchofmError(
                "the shards have no val clips for the monitor; write them with some "
                "(`echofm shards --fractions 0.8 0.1 0.1`), or switch the monitor off: --monitor.every 0"
            )
        indices = np.unique(np.linspace(0, len(shards) - 1, clips).round().astype(int))
        chosen = [shards.clip(int(index)) for index in indices]
        length, rate_hz = contract.frames, contract.frame_rate_hz
        windows = window_batches(chosen, frames=length, frame_rate_hz=rate_hz, windows_per_clip=1, batch=len(chosen))
        phases = [_phase_of_window(clip, length=length, rate_hz=rate_hz) for clip in chosen]
        return cls(batch=fit_to(next(windows).to("cpu"), contract), phase_BF=torch.stack(phases))


def _phase_of_window(clip: Clip, *, length: int, rate_hz: float | None) -> torch.Tensor:
    """(F,) true phase of the frames of the clip's middle window; NaN where unknown."""
    if clip.phase_T is None:
        return torch.full((length,), math.nan)
    time_s, count = clip.frame_time_s, len(clip.frames_TCHW)
    (start_s,) = even_starts_s(time_s, count, length=length, frame_rate_hz=rate_hz, count=1)
    frames_L, _ = window_indices(time_s, count, length=length, frame_rate_hz=rate_hz, start_s=start_s)
    return torch.from_numpy(clip.phase_T[frames_L])


class Monitor:
    """Measures a model on held-out clips, on the main process alone; the others wait at their next reduction.

    every: steps between two measurements; step 0 (the untrained model) and the last step are measured too.
    latest: the figures of the last measurement.
    """

    def __init__(
        self,
        held_out: HeldOut,
        *,
        every: int,
        steps: int,
        snapshot: Snapshot,
        hooks: Mapping[str, Hook],
    ) -> None:
        self._held_out, self._every, self._steps = held_out, every, steps
        self._snapshot, self._hooks = snapshot, hooks
        self.latest: dict[str, float] = {}
        self._knew_places_only = False

    def __call__(self, model: VideoMae, step: int) -> Mapping[str, Figure]:
        """Figures and a picture under "monitor/...", or nothing where none are due."""
        if step % self._every and step != self._steps:
            return {}
        device = next(model.parameters()).device
        generators = [device] if device.type == "cuda" else []
        was_training = model.training
        model.eval()
        # A measurement leaves no trace in the training: neither mode, nor gradients, nor random numbers.
        with torch.random.fork_rng(generators), torch.no_grad():
            figures, picture_HW3 = measure(model, self._held_out)
            for name, hook in self._hooks.items():
                own = hook(self._snapshot.at(model, step))
                figures |= {f"{name}/{key}": float(value) for key, value in own.items()}
        model.train(was_training)
        # An untrained model may look collapsed; it is no news.
        figures["collapsed"] = float(step > 0 and collapsed(figures))
        if figures["collapsed"]:
            cry_out(figures, step)
        wants_phase = model.objective.triplet.weight > 0 or model.objective.cycle.weight > 0
        knows_places_only = step > 0 and wants_phase and figures["position_share"] > _ONLY_PLACES
        # Every run passes through it; one that is still there at the next measurement may stay.
        if knows_places_only and self._knew_places_only:
            warn_of_places(figures["position_share"], step)
        self._knew_places_only = knows_places_only
        self.latest = {f"monitor/{key}": value for key, value in figures.items()}
        return {**self.latest, "monitor/reconstruction": picture_HW3}


def measure(model: VideoMae, held_out: HeldOut) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
    """Figures of a model in evaluation mode (means over the clips), and the first clips as reconstructed (H, W, 3).

    prior_correlation, phase_contrast: see echofm.metric.cycle. phase_contrast_min: of all clips.
    phase_contrast_positive: share of the clips where it is. psnr_db: of hidden tubelets.
    position_share: see echofm.metric.cycle. rankme, embedding_std: of all phase vectors. video_rankme: of clip vectors.
    """
    device = next(model.parameters()).device
    correlation, contrast, phases, videos, psnr, pictures = [], [], [], [], [], []
    for first in range(0, len(held_out.batch), _CLIPS_AT_ONCE):
        part = slice(first, first + _CLIPS_AT_ONCE)
        batch = held_out.batch[part].to(device)
        video_BCTHW = batch.video_BCTHW
        encoding = model.encode(video_BCTHW)
        similarity_BTT = cosine_similarity(encoding.phase_BTD.float()).cpu()
        prior_BTT = pixel_prior(video_BCTHW, tubelet=model.encoder.tubelet).cpu()
        phase_BT = token_phase(held_out.phase_BF[part], tubelet=model.encoder.tubelet)
        correlation.append(prior_correlation(similarity_BTT, prior_BTT))
        contrast.append(phase_contrast(similarity_BTT, prior_BTT=prior_BTT, phase_BT=phase_BT))
        phases.append(encoding.phase_BTD.float().cpu())
        videos.append(encoding.video_BD.float().cpu())
        reconstruction = reconstruct(model, video_BCTHW, batch.draw_B, sector_BHW=batch.sector_BHW)
        psnr.append(reconstruction.psnr_db_B.cpu())
        pictures.append(sheet(reconstruction))
    contrasts, phase_BTD = torch.cat(contrast), torch.cat(phases)
    known = contrasts[contrasts.isfinite()]
    figures = {
        "prior_correlation": float(torch.cat(correlation).nanmean()),
        "phase_contrast": float(known.mean()),
        "phase_contrast_min": float(known.min()) if len(known) else math.nan,
        "phase_contrast_positive": float((known > 0).double().mean()),
        "position_share": position_share(phase_BTD),
        "rankme": rankme(phase_BTD.flatten(0, 1)),
        "embedding_std": embedding_std(phase_BTD.flatten(0, 1)),
        "video_rankme": rankme(torch.cat(videos)),
        "psnr_db": float(torch.cat(psnr).mean()),
    }
    return figures, pictures[0]


def collapsed(figures: Mapping[str, float]) -> bool:
    """Whether all moments of all clips are embedded alike."""
    return figures["rankme"] < _COLLAPSED_RANK or figures["embedding_std"] < _COLLAPSED_STD


def cry_out(figures: Mapping[str, float], step: int) -> None:
    """Say it so that nobody overlooks it."""
    console.print(
        f"[bold white on red] COLLAPSE [/] step {step}: every time point of every clip looks alike to the encoder "
        f"(rank {figures['rankme']:.2f}, embedding_std {figures['embedding_std']:.4f}). Lower --fit.optim.lr-per-256, "
        "lengthen --fit.optim.warmup-steps, or take --objective.prior.kind pixel",
        highlight=False,
    )


def warn_of_places(share: float, step: int) -> None:
    """Tell of an encoder that has learnt how far apart moments are, and nothing of the heart."""
    console.print(
        f"[bold black on yellow] NO HEART YET [/] step {step}: {share:.0%} of what tells a clip's moments apart is "
        "their place in the window. If this lasts, take --network.phase-centre 0.9 where it is less, lower "
        "--fit.optim.lr-per-256, lengthen --fit.optim.warmup-steps, or begin from a trained encoder (--init)",
        highlight=False,
    )
