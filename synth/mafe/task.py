"""The task of motion features: networks, teachers, and what one update means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from echofm.augment import vary_grey
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.config import FitConfig
from echofm.engine.parallel import processes
from echofm.engine.player import Player
from echofm.engine.task import Figure, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import load_encoder, save_model
from echofm.shards.read import ShardSet
from synth.mafe.augment import varied
from synth.mafe.batch import LessonBatch, lesson_batches, read_lessons
from synth.mafe.config import MafeConfig
from synth.mafe.identity import identities_of
from synth.mafe.learner import EchofmLearner, Learner, PublishedLearner
from synth.mafe.lessons import lessons_of, usable
from synth.mafe.losses import flow_distance, identity_distance, reconstruction
from synth.mafe.network import Mafe
from synth.mafe.published.network import PublishedMafe
from synth.mafe.recipes import MafeRecipe
from synth.mafe.validate import Validation

# Frames that appearance is whitened on, and how much faster its head learns: it reads frozen, whitened numbers.
_WHITENED, _HEAD_LR = 384, 5.0


def _lr_scale(name: str) -> float:
    return _HEAD_LR if "appearance" in name or "to_identity" in name else 1.0


class MafeTask(Task):
    """Predict the frame between two; motion to a flow teacher, appearance to a re-identification teacher.

    encoder: an export, for the recipes on an encoder. reid: a head on that encoder; None: no appearance teacher.
    Raises EchofmError on what cannot be.
    """

    def __init__(
        self, recipe: MafeRecipe, shards: ShardSet, *, encoder: str | None = None, reid: Path | None = None
    ) -> None:
        self._recipe, self._shards = recipe, shards
        if reid is not None and encoder is None:
            raise EchofmError("--reid: the head reads the features of an encoder; name it by --encoder")
        torch.manual_seed(recipe.fit.seed)
        self._digests: dict[str, str] = {}
        if recipe.network == "echofm":
            net: nn.Module = self._on_encoder(encoder)
        else:
            net = PublishedMafe(recipe.published)
            self.contract = InputContract(size=shards.manifest.settings.size, frames=3)
        teachers = recipe.teachers
        self._lessons = lessons_of(shards, flow=teachers.flow, per_clip=teachers.lessons)
        self._identities: Mapping[str, Any] = {}
        if reid is not None and teachers.identity_weight:
            assert encoder is not None
            self._identities, self._digests["appearance teacher"] = identities_of(shards, encoder=encoder, head=reid)
        width = len(next(iter(self._identities.values()), ()))
        if isinstance(net, Mafe):
            net.appearance.fit(self._tokens(net))
        made = EchofmLearner if isinstance(net, Mafe) else PublishedLearner
        self.net: Learner = made(cast(Any, net), identity=width)
        self._validation = self._measured() if recipe.monitor.every else None

    def _on_encoder(self, encoder: str | None) -> Mafe:
        if encoder is None:
            raise EchofmError("the recipe has heads on an encoder; name it: --encoder RUN/export")
        loaded = load_encoder(encoder)
        size = self._shards.manifest.settings.size
        if loaded.contract.size != size:
            raise EchofmError(
                f"the encoder takes {loaded.contract.size} pixels, the shards have {size}; write shards with "
                f"`echofm shards --size {loaded.contract.size}`"
            )
        self._digests["encoder"] = loaded.digest
        self.contract = loaded.contract
        config = MafeConfig(
            encoder=loaded.net.config, heads=self._recipe.heads, frame_rate_hz=loaded.contract.frame_rate_hz
        )
        return Mafe(config, loaded.net)

    @torch.no_grad()
    def _tokens(self, net: Mafe) -> torch.Tensor:
        """Of the first frames of training clips, what appearance is read from."""
        train = self._shards.split("train")
        chosen = np.unique(np.linspace(0, len(train) - 1, _WHITENED).round().astype(int))
        frames = [train.array(int(clip), "frames_TCHW", 0, 1) for clip in chosen]
        frame_N1HW = torch.from_numpy(np.concatenate([each for each in frames if each is not None])).float()
        grey_N1HW = frame_N1HW.mean(1, keepdim=True) / 255
        return torch.cat([net.frame(some).tokens_NF for some in grey_N1HW.split(64)])

    def players(self) -> list[Player]:
        """The network, with what only training needs beside it."""
        fit = self._recipe.fit
        player = Player(name="model", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay, lr_scale=_lr_scale)
        return [player]

    def digests(self) -> Mapping[str, str]:
        """Of encoder and appearance teacher."""
        return self._digests

    def batches(self, shards: ShardSet, config: FitConfig, *, start_step: int) -> Iterator[ClipBatch]:
        """Triples of the training clips, shuffled anew each epoch."""
        train = self._usable("train")
        return lesson_batches(
            train,
            self._lessons,
            self._identities,
            batch=config.batch,
            rank=processes().process_index,
            world=processes().num_processes,
            seed=config.seed,
            start_step=start_step,
        )

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Grey, and geometry and order varied together."""
        assert isinstance(batch, LessonBatch)
        batch = replace(batch, video_BCTHW=batch.video_BCTHW.mean(1, keepdim=True))
        return varied(batch) if self._recipe.data.geometry else batch

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """Means over the global batch of reconstruction, flow and identity, weighted."""
        assert isinstance(batch, LessonBatch)
        pairs = yield Sum(torch.ones(len(batch), device=batch.time_B.device).sum())
        looked = vary_grey(batch, gain=self._recipe.data.gain, contrast=self._recipe.data.contrast)
        first, middle, last = batch.video_BCTHW.unbind(2)
        seen = looked.video_BCTHW[:, :, 0], looked.video_BCTHW[:, :, 2]
        found = turn.net(first, last, batch.time_B, seen)
        teachers = self._recipe.teachers
        parts = {
            "recon": reconstruction(found.pred, found.parts, middle, lowest=self._recipe.network == "echofm"),
            "flow": flow_distance(found.flow_B4hw, batch.flow_B4hw, batch.sector_BHW),
        }
        weights = {"recon": 1.0, "flow": teachers.flow_weight, "identity": teachers.identity_weight}
        if found.identity is not None:
            parts["identity"] = identity_distance(found.identity, batch.identity_BE)
        shares = {name: each_B.sum() / pairs for name, each_B in parts.items()}
        loss = torch.stack([weights[name] * share for name, share in shares.items() if weights[name]]).sum()
        return StepOutput(loss=loss, logs={f"{name}_loss": share.detach() for name, share in shares.items()})

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """What held-out pairs give: see synth.mafe.validate."""
        return self._validation(cast(Learner, nets["model"])) if self._validation else {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The network alone, with its contract and card. The last running mean: no figure of pixels chooses it."""
        rights = self._recipe.model_dump(include={"licence", "authors"})
        net: Any = nets["model"].net
        contract = net.config.contract if isinstance(net, Mafe) else None
        save_model(net, folder, contract=contract, card=card, **rights)

    def _usable(self, split: str) -> ShardSet:
        """The clips of a split that have lessons."""
        chosen = self._shards.split(split)
        return replace(chosen, records=[chosen.records[number] for number in usable(chosen)])

    def _measured(self) -> Validation:
        val = self._usable("val")
        if not len(val):
            raise EchofmError("the shards have no val clips for the monitor; switch it off: --monitor.every 0")
        clips = torch.linspace(0, len(val) - 1, min(self._recipe.monitor.clips, len(val))).round().long().tolist()
        chosen = [(clip, 0, 0) for clip in clips]
        batch = cast(LessonBatch, read_lessons(val, self._lessons, {}, chosen).to("cpu"))
        return Validation(replace(batch, video_BCTHW=batch.video_BCTHW.mean(1, keepdim=True)))
