"""The losses of a VideoMae: one class a loss, with what it is a mean over. A new loss is one class here and one field
of `ObjectiveConfig`.

Shapes: B clips, C channels, T frames or time indices, H rows, W columns; N tokens, K visible ones, M hidden and
decoded ones, V values of a tubelet's target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from echofm.errors import EchofmError
from echofm.loss import periodic, pixel
from echofm.loss.contrastive import Embedded, clip_contrast_sum
from echofm.model.config import NetworkConfig, ObjectiveConfig, PriorConfig
from echofm.model.tokens import Grid, cut


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked:
    """A batch and what of it is hidden.

    visible_BK, hidden_BM: ids of the visible tokens, and of the hidden ones that are decoded, ascending.
    times_BT: the time indices that have visible tokens. sector_BHW: bool, or None where no loss asks for it.
    """

    video_BCTHW: torch.Tensor
    sector_BHW: torch.Tensor | None
    grid: Grid
    visible_BK: torch.Tensor
    hidden_BM: torch.Tensor
    times_BT: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Passed:
    """What the network made of a masked batch, in float32 at least.

    pred_BMV: predictions of the hidden tubelets. similarity_BTT, prior_BTT: how alike the time indices are embedded,
    and how alike they are. latent_BMD, target_BMD: predicted features of hidden tokens and what they should be, where
    these are predicted. views, compared: the clips' views and those of the global batch, where clips are contrasted.
    """

    pred_BMV: torch.Tensor
    similarity_BTT: torch.Tensor
    prior_BTT: torch.Tensor
    latent_BMD: torch.Tensor | None
    target_BMD: torch.Tensor | None
    views: Embedded | None
    compared: Embedded | None


class Term(Protocol):
    """One loss. name: of its figure. weight: in the total."""

    name: ClassVar[str]
    weight: float

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        """How many things of this batch its figures are means over: a scalar, from what is known before the pass."""
        ...

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        """The loss under `name`, and figures beside it, as sums over this batch."""
        ...


def make_terms(objective: ObjectiveConfig, network: NetworkConfig) -> list[Term]:
    """The terms of an objective, in the order in which they are added up."""
    terms: list[Term] = [Reconstruction(objective, network), Triplet(objective), Cycle(objective)]
    more: list[Term] = [ClipContrast(objective), Latent(objective)]
    return terms + [term for term in more if term.weight]


class Reconstruction:
    """Squared error of the hidden tubelets, a mean over those that are scored."""

    name: ClassVar[str] = "recon"

    def __init__(self, objective: ObjectiveConfig, network: NetworkConfig) -> None:
        self._config = objective.reconstruction
        self.weight = self._config.weight
        self._tubelet, self._patch = network.tubelet, network.patch
        self._per_time = network.predicted_frames // network.times

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return self._scored(batch).sum()

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        weight_BM = self._scored(batch)
        return {self.name: pixel.reconstruction_sum(passed.pred_BMV, self._target(batch), weight_BM=weight_BM)}

    def _scored(self, batch: Masked) -> torch.Tensor:
        """(B, M) 1 where a tubelet is scored, else 0."""
        if not self._config.sector_only:
            return torch.ones(batch.hidden_BM.shape, device=batch.hidden_BM.device)
        if batch.sector_BHW is None:
            raise EchofmError("sector_only scores the tubelets in the ultrasound sector; give sector_BHW")
        inside = pixel.touches_sector(batch.sector_BHW, patch=self._patch)
        return inside.gather(1, batch.hidden_BM % batch.grid.space).float()

    def _target(self, batch: Masked) -> torch.Tensor:
        """(B, M, V) what the hidden tubelets should be: values over (frame, row, column, channel)."""
        frames = batch.video_BCTHW.shape[2]
        chosen = pixel.target_frames(frames, frames // self._tubelet * self._per_time).to(batch.video_BCTHW.device)
        shown = full(batch.video_BCTHW[:, :, chosen])
        if self._config.median_target:
            shown = pixel.median_filtered(shown)
        target = cut(shown, batch.hidden_BM, tubelet=self._per_time, patch=self._patch, channels_last=True)
        return pixel.patch_normalised(target) if self._config.normalised_target else target


class Triplet:
    """Hard triplets of moments, a mean over the anchors that have a positive and a negative."""

    name: ClassVar[str] = "triplet"

    def __init__(self, objective: ObjectiveConfig) -> None:
        self.weight, self._margin = objective.triplet.weight, objective.triplet.margin

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return periodic.valid_anchors(prior_BTT, time_BT=batch.times_BT)

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        """The loss, and how many triplets still push: near 0 they teach nothing."""
        triplets = periodic.mine(passed.prior_BTT, passed.similarity_BTT, time_BT=batch.times_BT)
        loss, active = periodic.triplet_sum(passed.similarity_BTT, triplets, margin=self._margin)
        return {self.name: loss, "triplet_active": active}


class Cycle:
    """Distillation of the prior into the embedding's self-similarity, a mean over all time indices."""

    name: ClassVar[str] = "cycle"

    def __init__(self, objective: ObjectiveConfig) -> None:
        self.weight, self._temperature = objective.cycle.weight, objective.cycle.temperature

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return torch.tensor(batch.times_BT.numel(), device=prior_BTT.device)

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        return {self.name: periodic.cycle_sum(passed.prior_BTT, passed.similarity_BTT, temperature=self._temperature)}


class ClipContrast:
    """The contrast of clips, a mean over the batch's views."""

    name: ClassVar[str] = "clip"

    def __init__(self, objective: ObjectiveConfig) -> None:
        self.weight, self._config = objective.clip_contrast.weight, objective.clip_contrast

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return torch.tensor(len(batch.video_BCTHW) * self._config.views, device=prior_BTT.device)

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        """The loss, and how many views find another one of their own clip."""
        assert passed.views is not None and passed.compared is not None
        loss, found = clip_contrast_sum(passed.views, passed.compared, temperature=self._config.temperature)
        return {self.name: loss, "clip_found": found}


class Latent:
    """Absolute error of the hidden tokens' features, a mean over them and their numbers (arXiv 2404.08471)."""

    name: ClassVar[str] = "latent"

    def __init__(self, objective: ObjectiveConfig) -> None:
        self.weight = objective.latent.weight

    def denominator(self, batch: Masked, prior_BTT: torch.Tensor) -> torch.Tensor:
        return torch.tensor(batch.hidden_BM.numel(), device=prior_BTT.device)

    def sums(self, batch: Masked, passed: Passed) -> dict[str, torch.Tensor]:
        assert passed.latent_BMD is not None and passed.target_BMD is not None
        error_BM = (passed.latent_BMD - passed.target_BMD).abs().mean(2)
        return {self.name: error_BM.sum()}


def prior_of(config: PriorConfig, batch: Masked, *, tubelet: int, similarity: torch.Tensor | None) -> torch.Tensor:
    """(B, T, T) how alike a batch's time indices are. similarity: of their embeddings, for the kind "embedding"."""
    if config.kind == "embedding":
        assert similarity is not None
        return periodic.along_trajectories(similarity.detach(), reach=config.context)
    likeness = periodic.pixel_prior if config.kind == "pixel" else periodic.motion_prior
    prior = likeness(full(batch.video_BCTHW), tubelet=tubelet, centre=config.centre)
    prior = periodic.along_trajectories(prior, reach=config.context)
    times_BT = batch.times_BT
    times = times_BT.shape[1]
    if times == prior.shape[1]:
        return prior
    rows = prior.gather(1, times_BT[:, :, None].expand(-1, -1, prior.shape[2]))
    return rows.gather(2, times_BT[:, None, :].expand(-1, times, -1))


def full(x: torch.Tensor) -> torch.Tensor:
    """In float32 at least: similarities and errors lose their meaning in bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
