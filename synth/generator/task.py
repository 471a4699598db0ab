"""GeneratorTask: codec, path, network and condition on the one engine. Recipes differ in these alone.

Shapes: B clips, C channels, T frames, H rows, W columns of latents; N tokens of an encoder, D numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from echofm.augment import fit_to
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.digest import tensor_digest
from echofm.engine.held_out import held_out
from echofm.engine.player import Player
from echofm.engine.task import Figure, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import Encoder, save_model
from echofm.shards.carry import check_carry
from echofm.shards.read import ShardSet
from synth.condition import Condition
from synth.condition_field import Sizes
from synth.condition_fields import FIELDS
from synth.generator.config import GeneratorRecipe
from synth.generator.denoiser import Denoiser, Teacher
from synth.generator.frozen import Seen, require_fit, with_base
from synth.generator.model import Generator, GeneratorConfig
from synth.generator.validate import Validation
from synth.latent.codec import Codec
from synth.mafe.extract import MotionEncoder
from synth.text.grammar import VOCABULARY


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentBatch(ClipBatch):
    """A batch whose video is latents, with what frozen networks saw in its pixels."""

    tokens_BND: torch.Tensor | None = None
    motion_BND: torch.Tensor | None = None


class GeneratorTask(Task):
    """Learn to generate what a codec's latents hold, under conditions.

    codec: of latents, or pixels. encoder: a frozen encoder, for the condition `embedding` and for alignment. motion: a
    frozen motion network, for the condition `motion`. base: a trained generator, for recipe.control: its network, path,
    conditions, frames and codec are taken. Raises EchofmError on what does not fit, by name.
    """

    def __init__(
        self,
        recipe: GeneratorRecipe,
        shards: ShardSet,
        *,
        codec: Codec,
        encoder: Encoder | None = None,
        motion: MotionEncoder | None = None,
        base: Generator | None = None,
    ) -> None:
        recipe = with_base(recipe, base)
        data = recipe.data
        self._recipe, self._codec, self._encoder, self._motion = recipe, codec, encoder, motion
        self.contract = InputContract(
            size=codec.contract.size, frames=data.frames, frame_rate_hz=data.frame_rate_hz if data.frames > 1 else None
        )
        self._stored = shards.manifest.latents is not None
        require_fit(recipe, shards, codec, encoder=encoder, motion=motion)
        self._seen = None if encoder is None else Seen(encoder, data, name="--encoder")
        self._moved = None if motion is None else Seen(motion, data, name="--motion")
        names = (*recipe.conditions, *recipe.control)
        self.carry = sorted({each for name in names for each in FIELDS[name].carry})
        train = shards.split("train")
        check_carry(self.carry, train)
        self._sizes = self._sizes_of(train) if base is None else base.config.sizes
        self._spread = spread_of(train)
        torch.manual_seed(recipe.fit.seed)
        self.net = Denoiser(
            recipe.network,
            path=recipe.path,
            shift=recipe.shift,
            conditions=recipe.conditions,
            sizes=self._sizes,
            control=recipe.control,
            aligned=max(0, round(recipe.repa.depth * recipe.network.depth) - 1) if recipe.repa.weight else None,
            teacher_width=0 if encoder is None else encoder.net.config.width,
        )
        self._digests: dict[str, str] = {}
        if base is not None:
            self.net.begin_from(base.denoiser)
        self._validation: Validation | None = None
        if recipe.monitor.every:
            clips = held_out(shards.split("val"), self.contract, clips=recipe.monitor.clips, carry=self.carry)
            self._validation = Validation(self.prepare(clips), codec)

    def begin_from(self, other: Generator) -> None:
        """Take its weights of the same name. Raises EchofmError where codec or network are others."""
        if other.codec.digest != self._codec.digest:
            raise EchofmError("--init: a generator of another codec; give one that was trained with this --codec")
        own, given = self.net.state_dict(), other.denoiser.state_dict()
        unlike = [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
        if unlike or other.config.network.kind != self._recipe.network.kind:
            raise EchofmError(
                f"--init: its network is another ({', '.join(sorted(unlike)[:3])}); give the recipe the same --network "
                "and the same conditions that lie beside the latents"
            )
        self.net.load_state_dict(own | {name: each for name, each in given.items() if name in own})
        self._digests["initial weights"] = tensor_digest(given, settings=other.architecture)

    def _sizes_of(self, train: ShardSet) -> Sizes:
        channels, _, rows, columns = self._codec.latent_shape(1)
        patch = self._recipe.network.patch
        if self._recipe.network.kind == "transformer" and (rows % patch or columns % patch):
            raise EchofmError(
                f"latents of {rows} x {columns} are not tiled by --network.patch {patch}; take one that divides them"
            )
        views = sorted({record.meta.view for record in train.records if record.meta.view is not None})
        tokens: dict[str, tuple[int, int]] = {}
        if self._encoder is not None:
            tokens["embedding_BND"] = (self._encoder.grid.time, self._encoder.net.config.width)
        if self._moved is not None:
            tokens["motion_BND"] = self._moved.shape
        return Sizes(
            width=self._recipe.network.width,
            latent=(channels, rows, columns),
            views=tuple(views),
            words=VOCABULARY if "text" in self._recipe.conditions else (),
            tokens=tokens,
        )

    def players(self) -> list[Player]:
        """The denoiser."""
        fit = self._recipe.fit
        return [Player(name="generator", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay)]

    def digests(self) -> Mapping[str, str]:
        """Of the generator that it begins from."""
        return self._digests

    def frozen(self) -> Mapping[str, nn.Module]:
        """Codec, encoder and motion network."""
        motion = None if self._motion is None else self._motion.net
        named = {"codec": self._codec, "encoder": self._encoder, "motion": motion}
        return {name: net for name, net in named.items() if net is not None}

    @torch.no_grad()
    def prepare(self, batch: ClipBatch) -> LatentBatch:
        """Bring the clips to the codec's size, and encode them; those stored as latents are taken as they are."""
        if self._stored:
            return LatentBatch(**batch.held())
        batch = fit_to(batch, self.contract)
        video = batch.video_BCTHW
        return LatentBatch(
            **replace(batch, video_BCTHW=self._codec.encode(video)).held(),
            tokens_BND=None if self._seen is None else self._seen(video).tokens_BND,
            motion_BND=None if self._moved is None else self._moved(video).phase_BTD,
        )

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's share of the path's loss and of the alignment."""
        assert isinstance(batch, LatentBatch)
        clips = yield Sum(torch.tensor(len(batch), device=batch.draw_B.device))
        recipe, conditioner = self._recipe, self.net.conditioner
        rates = {"reference_BCTHW": recipe.reference_dropout}
        condition = conditioner.drop(self.condition_of(batch), batch.draw_B, recipe.dropout, but=rates)
        losses = turn.net(batch.video_BCTHW, condition, batch.draw_B, batch.valid_BT, self._teacher(batch, turn.step))
        logs = {name.removesuffix("_B"): loss_B.sum() / clips for name, loss_B in losses.items()}
        return StepOutput(loss=logs["path"] + self._recipe.repa.weight * logs.get("repa", 0), logs=logs)

    def condition_of(self, batch: LatentBatch) -> Condition:
        """What a batch says of itself."""
        condition = self.net.conditioner.read(batch)
        if "embedding" in self._recipe.conditions:
            assert self._seen is not None and batch.tokens_BND is not None
            condition = replace(condition, embedding_BND=self._seen.by_time(batch.tokens_BND))
        if "motion" in self._recipe.conditions:
            condition = replace(condition, motion_BND=batch.motion_BND)
        return condition

    def _teacher(self, batch: LatentBatch, step: int) -> Teacher | None:
        repa = self._recipe.repa
        if not repa.weight or self._seen is None or step > repa.until * self._recipe.fit.steps:
            return None
        assert batch.tokens_BND is not None
        return Teacher(tokens_BND=batch.tokens_BND, grid=self._seen.grid)

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Loss of held-out clips, with and without what they say of themselves; generated clips as a picture."""
        if self._validation is None:
            return {}
        return self._validation(nets["generator"], self.generator(nets["generator"]), self.condition_of)

    def generator(self, net: Denoiser) -> Generator:
        """What is exported of a denoiser."""
        recipe = self._recipe
        config = GeneratorConfig(
            network=recipe.network,
            path=recipe.path,
            shift=recipe.shift,
            conditions=recipe.conditions,
            control=recipe.control,
            sizes=self._sizes,
            data=recipe.data,
            codec=self._codec.architecture,
            motion=None if self._motion is None else self._motion.digest,
            spread=self._spread,
        )
        return Generator(config, net, self._codec)

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The generator with its codec; what only training needs is left out."""
        generator = self.generator(nets["generator"])
        generator.denoiser.align = None
        save_model(
            generator,
            folder,
            contract=generator.contract,
            card={**card, "codec digest": self._codec.digest},
            **self._recipe.model_dump(include={"licence", "authors"}),
        )

    def advice(self) -> str:
        """How this task takes less memory."""
        return "" if self._recipe.network.grad_checkpointing else "--network.grad-checkpointing (the same result)"


def spread_of(train: ShardSet) -> dict[str, tuple[float, ...]]:
    """By label what a set is drawn by where nobody asks: see GeneratorConfig."""
    found: dict[str, tuple[float, ...]] = {}
    for name in ("ef_percent", "heart_rate_bpm"):
        values = [float(meta.labels[name]) for meta in (each.meta for each in train.records) if name in meta.labels]
        if len(values) > 1:
            found[name] = tuple(round(float(each), 2) for each in np.quantile(values, np.linspace(0.025, 0.975, 39)))
    return found
