"""The pretraining task: a recipe translated into plain arguments, and what one update of it means.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.draws import Stream, uniform
from echofm.engine.task import Figure, Rows, StepOutput
from echofm.hub import save_model
from echofm.loss.contrast import Embedded
from echofm.model.mae import VideoMae
from pretrain.recipes import PretrainRecipe


class Watcher(Protocol):
    """Looks at the model after each update."""

    @property
    def latest(self) -> Mapping[str, float]:
        """The last figures."""
        ...

    def __call__(self, model: VideoMae, step: int) -> Mapping[str, Figure]:
        """Figures where some are due."""
        ...


class PretrainTask:
    """Masked reconstruction with periodic contrastive learning.

    net: the VideoMae. contract: the clips it takes. initial: the model whose weights it begins from, else random ones.
    card: facts for the model card, to which the watcher's last figures are added.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        *,
        card: Mapping[str, Any],
        initial: VideoMae | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        torch.manual_seed(recipe.fit.seed)
        self.net = VideoMae(recipe.network, recipe.masking, recipe.objective)
        if initial is not None:
            # The head of a contrast of clips is this run's own: the other one may have had none.
            own = self.net.state_dict()
            self.net.load_state_dict(own | {name: each for name, each in initial.state_dict().items() if name in own})
        self.net.set_grad_checkpointing(recipe.grad_checkpointing)
        self.contract = contract_of(recipe)
        self._recipe, self._card, self._watcher = recipe, card, watcher

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the model's size and channels, then vary their gain and contrast."""
        fitted = fit_to(batch, self.contract)
        data = self._recipe.data
        if not (data.gain or data.contrast):
            return fitted
        video_BCTHW = vary(fitted.video_BCTHW, batch.draw_B, gain=data.gain, contrast=data.contrast)
        return replace(fitted, video_BCTHW=video_BCTHW)

    def counts(self, batch: ClipBatch) -> torch.Tensor:
        """Scored tubelets, valid anchors, anchors and views of the batch."""
        return self.net.denominators(batch.video_BCTHW, sector_BHW=batch.sector_BHW, draw_B=batch.draw_B)

    def shared(self, batch: ClipBatch) -> Rows | None:
        """The views that every clip of the global batch is compared with, where clips are contrasted."""
        views = self.net.embedded_views(batch.video_BCTHW, batch.draw_B)
        return None if views is None else vars(views)

    def step(self, net: nn.Module, batch: ClipBatch, totals: torch.Tensor, shared: Rows | None = None) -> StepOutput:
        """The batch's shares of reconstruction, triplet, cycle and clip loss."""
        output = net(
            batch.video_BCTHW,
            sector_BHW=batch.sector_BHW,
            draw_B=batch.draw_B,
            denominators=totals,
            views=None if shared is None else Embedded(**shared),
            hidden_only=True,
        )
        return StepOutput(loss=output.loss, logs=output.figures, embedding_ND=output.phase_BTD.flatten(0, 1))

    def after_update(self, step: int) -> Mapping[str, Figure]:
        """The watcher's figures, where some are due."""
        return self._watcher(self.net, step) if self._watcher else {}

    def export(self, folder: Path, *, step: int) -> None:
        """The whole VideoMae with its contract and card, which says so where a run was stopped early."""
        measured = self._watcher.latest if self._watcher else {}
        planned = self._recipe.fit.steps
        steps = {} if step == planned else {"steps": f"{step} of {planned}: the run was stopped"}
        save_model(self.net, folder, contract=self.contract, card={**self._card, **measured, **steps})

    def advice(self) -> str:
        """How this task takes less memory."""
        return "" if self._recipe.grad_checkpointing else "--grad-checkpointing (more time, the same result)"


def contract_of(recipe: PretrainRecipe) -> InputContract:
    """What clips the model of a recipe takes."""
    network = recipe.network
    return InputContract(
        size=network.size, frames=network.frames, channels=network.channels, frame_rate_hz=recipe.data.frame_rate_hz
    )


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


def vary(video_BCTHW: torch.Tensor, draw_B: torch.Tensor, *, gain: float, contrast: float) -> torch.Tensor:
    """min(1, g * x^c), g uniform in [1 - gain, 1 + gain] and log2 c in [-contrast, contrast], one draw a clip.

    Black stays black, so nothing appears outside the sector. No flips: left and right mean something in a heart.
    """
    uniform_B2 = 2 * uniform(draw_B, 2, stream=Stream.LOOK) - 1
    factor_B, exponent_B = 1 + gain * uniform_B2[:, 0], 2 ** (contrast * uniform_B2[:, 1])
    per_clip = (-1, 1, 1, 1, 1)
    varied = video_BCTHW.pow(exponent_B.float().view(per_clip)).mul_(factor_B.float().view(per_clip))
    return varied.clamp_(max=1)
