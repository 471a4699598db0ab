"""The pretraining task: a recipe translated into plain arguments, and what one update of it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from echofm.augment import fit_to, vary_acoustics, vary_grey
from echofm.clip import ClipBatch
from echofm.engine.held_out import held_out
from echofm.engine.parallel import processes
from echofm.engine.player import Player
from echofm.engine.task import Figure, Join, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import load_encoder, load_model, save_model
from echofm.loss.contrastive import Embedded
from echofm.metric.collapse import embedding_std, rankme
from echofm.model.mae import VideoMae
from echofm.progress import console
from echofm.shards.read import ShardSet
from pretrain.recipes import PretrainRecipe
from pretrain.validate import Validation


class PretrainTask(Task):
    """Masked reconstruction or prediction of features, with periodic contrastive learning.

    net: the VideoMae. shards: whose val split is measured; None: nothing is. init: an export, a folder or a hub id,
    whose weights it begins from, else random ones. Raises EchofmError on what cannot be.
    """

    def __init__(self, recipe: PretrainRecipe, shards: ShardSet | None = None, *, init: str | None = None) -> None:
        self._recipe, self.contract, self.carry = recipe, recipe.contract, ["beam"] * (recipe.data.acoustic > 0)
        if shards is not None and shards.manifest.settings.channels == 3 and recipe.network.channels == 1:
            raise EchofmError(
                "the shards are in colour, the model is grey: `echofm shards --channels 1`, or --network.channels 3"
            )
        if shards is not None and shards.manifest.settings.size < recipe.network.size and processes().is_main_process:
            theirs, ours = shards.manifest.settings.size, recipe.network.size
            console.print(
                f"note: the shards have {theirs} pixels, the model takes {ours}: they are enlarged, and nothing is "
                f"gained by it; take --network.size {theirs}, or write shards with --size {ours}"
            )
        torch.manual_seed(recipe.fit.seed)
        self.net = VideoMae(recipe.network, recipe.masking, recipe.objective)
        self._digest = None if init is None else self._begin_from(init)
        self.net.set_grad_checkpointing(recipe.grad_checkpointing)
        self._validation: Validation | None = None
        if shards is not None and recipe.monitor.every:
            val = shards.split("val")
            clips = held_out(val, self.contract, clips=recipe.monitor.clips, carry=["phase"])
            self._validation = Validation(fit_to(clips, self.contract))

    def _begin_from(self, init: str) -> str:
        """Take the weights of an export, whose network must be the recipe's; its digest."""
        model = load_model(init)
        if not isinstance(model, VideoMae):
            raise EchofmError("--init: the model given has no decoder, as an encoder saved alone; give a whole export")
        for name, value in self._recipe.network.model_dump().items():
            given = getattr(model.config, name)
            # Another centring fits the same weights.
            if name != "phase_centre" and given != value:
                option = f"--network.{name.replace('_', '-')} {given}"
                raise EchofmError(
                    f"--init: its network has {name} {given}, the recipe {value}; add {option} or take another recipe"
                )
        # The head of a contrast of clips is this run's own: the other one may have had none.
        own = self.net.state_dict()
        self.net.load_state_dict(own | {name: each for name, each in model.state_dict().items() if name in own})
        return load_encoder(init).digest

    def players(self) -> list[Player]:
        fit = self._recipe.fit
        return [Player(name="model", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay)]

    def digests(self) -> Mapping[str, str]:
        return {} if self._digest is None else {"initial weights": self._digest}

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the model's size and channels, then vary how they were taken, their gain and contrast."""
        data, batch = self._recipe.data, fit_to(batch, self.contract)
        return vary_grey(vary_acoustics(batch, most=data.acoustic), gain=data.gain, contrast=data.contrast)

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's shares of reconstruction, triplet, cycle and clip loss."""
        seen: dict[str, Any] = {"sector_BHW": batch.sector_BHW, "draw_B": batch.draw_B}
        denominators = yield Sum(self.net.denominators(batch.video_BCTHW, **seen))
        views = None
        if self.net.clip_head is not None and not turn.whole:
            with torch.no_grad():
                own = self.net.embedded_views(batch.video_BCTHW, batch.draw_B)
            views = Embedded(**(yield Join(vars(own))))
        if self.net.latent_head is not None:
            with torch.no_grad():
                seen["target_BND"] = turn.ema["model"].encoder(batch.video_BCTHW)
        output = turn.net(batch.video_BCTHW, **seen, denominators=denominators, views=views, hidden_only=True)
        rows_ND = output.phase_BTD.detach().flatten(0, 1)
        return StepOutput(
            loss=output.loss,
            logs=output.figures,
            on_log=lambda: {"rankme": rankme(rows_ND), "embedding_std": embedding_std(rows_ND)},
        )

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        return self._validation(nets["model"], step) if self._validation else {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        rights = self._recipe.model_dump(include={"licence", "authors"})
        save_model(nets["model"], folder, contract=self.contract, card=card, **rights)

    def advice(self) -> str:
        return "" if self._recipe.grad_checkpointing else "--grad-checkpointing (more time, the same result)"
