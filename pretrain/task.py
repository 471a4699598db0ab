"""The pretraining task: a recipe translated into plain arguments, and what one update of it means.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from echofm.augment import fit_to, vary_grey
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.held_out import HeldOut
from echofm.engine.player import Player
from echofm.engine.task import Figure, Join, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import load_encoder, load_model, save_model
from echofm.loss.contrast import Embedded
from echofm.metric.collapse import embedding_std, rankme
from echofm.model.mae import VideoMae
from echofm.shards.read import ShardSet
from pretrain.recipes import PretrainRecipe
from pretrain.validate import Validation


class PretrainTask(Task):
    """Masked reconstruction with periodic contrastive learning.

    net: the VideoMae. contract: the clips it takes. initial: the model whose weights it begins from, else random ones;
    digest: that model's. held_out: the clips that are measured; None: none.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        *,
        initial: VideoMae | None = None,
        digest: str | None = None,
        held_out: HeldOut | None = None,
    ) -> None:
        torch.manual_seed(recipe.fit.seed)
        self.net = VideoMae(recipe.network, recipe.masking, recipe.objective)
        if initial is not None:
            # The head of a contrast of clips is this run's own: the other one may have had none.
            own = self.net.state_dict()
            self.net.load_state_dict(own | {name: each for name, each in initial.state_dict().items() if name in own})
        self.net.set_grad_checkpointing(recipe.grad_checkpointing)
        self.contract = contract_of(recipe)
        self._recipe, self._digest = recipe, digest
        self._validation = None if held_out is None else Validation(held_out, self.contract)

    def players(self) -> list[Player]:
        """The VideoMae."""
        fit = self._recipe.fit
        return [Player(name="model", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay)]

    def digests(self) -> Mapping[str, str]:
        """That of the weights it begins from."""
        return {} if self._digest is None else {"initial weights": self._digest}

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the model's size and channels, then vary their gain and contrast."""
        data = self._recipe.data
        return vary_grey(fit_to(batch, self.contract), gain=data.gain, contrast=data.contrast)

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's shares of reconstruction, triplet, cycle and clip loss."""
        seen: dict[str, Any] = {"sector_BHW": batch.sector_BHW, "draw_B": batch.draw_B}
        denominators = yield Sum(self.net.denominators(batch.video_BCTHW, **seen))
        views = None
        if self.net.clip_head is not None and not turn.whole:
            with torch.no_grad():
                own = self.net.embedded_views(batch.video_BCTHW, batch.draw_B)
            views = Embedded(**(yield Join(vars(own))))
        output = turn.net(batch.video_BCTHW, **seen, denominators=denominators, views=views, hidden_only=True)
        rows_ND = output.phase_BTD.detach().flatten(0, 1)
        return StepOutput(
            loss=output.loss,
            logs=output.figures,
            on_log=lambda: {"rankme": rankme(rows_ND), "embedding_std": embedding_std(rows_ND)},
        )

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Figures and a picture of held-out clips; says aloud where the embedding collapses."""
        model = nets["model"]
        assert isinstance(model, VideoMae)
        return self._validation(model, step) if self._validation else {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The whole VideoMae with its contract and card."""
        model = nets["model"]
        assert isinstance(model, VideoMae)
        rights = {"licence": self._recipe.licence, "authors": self._recipe.authors}
        save_model(model, folder, contract=self.contract, card=card, **rights)

    def advice(self) -> str:
        """How this task takes less memory."""
        return "" if self._recipe.grad_checkpointing else "--grad-checkpointing (more time, the same result)"


def prepared(recipe: PretrainRecipe, shards: ShardSet, *, init: str | None = None) -> PretrainTask:
    """The task on opened shards, from the export `init` or random weights. Raises EchofmError on what cannot be."""
    if recipe.objective.clip_contrast.weight and recipe.fit.batch < 2:
        raise EchofmError(
            "--objective.clip-contrast.weight tells a clip from the batch's others: give --fit.batch 2 or more"
        )
    if shards.manifest.settings.channels == 3 and recipe.network.channels == 1:
        raise EchofmError(
            "the shards are in colour, the model is grey: write them with `echofm shards --channels 1`, or take "
            "--network.channels 3"
        )
    initial, digest = initial_model(init, recipe)
    monitor, held_out = recipe.monitor, None
    if monitor.every:
        held_out = HeldOut.of(shards.split("val"), contract_of(recipe), clips=monitor.clips)
    return PretrainTask(recipe, initial=initial, digest=digest, held_out=held_out)


def initial_model(source: str | None, recipe: PretrainRecipe) -> tuple[VideoMae | None, str | None]:
    """The export that a run begins from, and its digest; None and None for random weights.

    Raises EchofmError where it is no export, or its network is not the recipe's.
    """
    if source is None:
        return None, None
    model = load_model(source)
    if not isinstance(model, VideoMae):
        raise EchofmError("--init: the model given has no decoder, as an encoder saved alone; give a whole export")
    for name, value in recipe.network.model_dump().items():
        own = getattr(model.network, name)
        # Another centring fits the same weights.
        if name != "phase_centre" and own != value:
            option = "--network." + name.replace("_", "-")
            raise EchofmError(
                f"--init: the network given has {name} {own}, the recipe {value}; add {option} {own} or take another "
                "recipe"
            )
    return model, load_encoder(source).digest


def contract_of(recipe: PretrainRecipe) -> InputContract:
    """What clips the model of a recipe takes."""
    network, rate_hz = recipe.network, recipe.data.frame_rate_hz
    return InputContract(size=network.size, frames=network.frames, channels=network.channels, frame_rate_hz=rate_hz)
