"""The autoencoder's task: reconstruct frames, against a discriminator that begins late.

Shapes: B clips, T frames of a clip, N = B * T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echofm.augment import fit_to, vary_grey
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.draws import Stream, normal
from echofm.engine.held_out import held_out
from echofm.engine.player import Player
from echofm.engine.task import Figure, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import load_encoder, save_model
from echofm.loss.adversarial import adaptive_weight, hinge_discriminator, hinge_generator
from echofm.loss.perceptual import PerceptualDistance
from echofm.shards.read import ShardSet
from synth.latent.autoencoder import Autoencoder, Reconstructed
from synth.latent.config import LatentRecipe
from synth.latent.discriminator import PatchDiscriminator
from synth.latent.objective import costs_of
from synth.latent.standardise import standardised
from synth.latent.validate import Validation


class LatentTask(Task):
    """An autoencoder of frames; `autoencoder` and, where the adversary has weight, `discriminator` are its players.

    shards: of which it sees the training split alone; None: nothing is measured or exported.
    encoder: an export in whose features frames are compared, a folder or a hub id. lpips: a file of LPIPS weights.
    Raises EchofmError on what cannot be.
    """

    def __init__(
        self,
        recipe: LatentRecipe,
        shards: ShardSet | None = None,
        *,
        encoder: str | None = None,
        lpips: Path | None = None,
    ) -> None:
        self._recipe, self._shards = recipe, shards
        self._perceptual, rate_hz = _perceptual(recipe, encoder, lpips)
        size, frames = recipe.network.size, recipe.data.frames
        self.contract = InputContract(size=size, frames=frames, frame_rate_hz=rate_hz)
        if shards is not None and shards.manifest.settings.channels == 3:
            raise EchofmError("the shards are in colour, the autoencoder is grey: write them with --channels 1")
        torch.manual_seed(recipe.fit.seed)
        self.net = Autoencoder(recipe.network)
        adversary, channels = recipe.adversary, recipe.network.grey_as
        self.discriminator = (
            PatchDiscriminator(channels=channels, width=adversary.width, layers=adversary.layers)
            if adversary.weight
            else None
        )
        self._validation: Validation | None = None
        if shards is not None and recipe.monitor.every:
            val = held_out(shards.split("val"), self.contract, clips=recipe.monitor.clips)
            self._validation = Validation(fit_to(val, self.contract))

    def players(self) -> list[Player]:
        """The autoencoder and its adversary."""
        fit = self._recipe.fit
        found = [Player(name="autoencoder", net=self.net, optim=fit.optim, ema_decay=fit.ema_decay)]
        if self.discriminator is not None:
            start = self._recipe.adversary.start_step
            found.append(Player(name="discriminator", net=self.discriminator, optim=fit.optim, start_step=start))
        return found

    def frozen(self) -> Mapping[str, nn.Module]:
        """The network in whose features frames are compared."""
        return {} if self._perceptual is None else {"perceptual": self._perceptual}

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the network's size, then vary their gain and contrast."""
        data = self._recipe.data
        return vary_grey(fit_to(batch, self.contract), gain=data.gain, contrast=data.contrast)

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's share of the loss of the player whose turn it is."""
        scored = yield Sum(batch.valid_BT.sum())
        share_N = batch.valid_BT.flatten() / scored
        net = turn.net if turn.player == "autoencoder" else turn.nets["autoencoder"]
        found = net(frames_of(batch.video_BCTHW), self._noise(batch))
        if turn.player == "discriminator":
            real_N, output_N = turn.net(torch.cat([found.seen_NCHW, found.output_NCHW])).flatten(1).chunk(2)
            loss = (hinge_discriminator(real_N, output_N) * share_N).sum()
            scores = {"score_of_real": (real_N.mean(1) * share_N).sum()}
            return StepOutput(loss=loss, logs=scores | {"score_of_output": (output_N.mean(1) * share_N).sum()})
        config = self._recipe.objective
        distance_N = self._distance(found, batch)
        costs = costs_of(found, distance_N, config)
        nll, kl = (costs.nll_N * share_N).sum(), (costs.kl_N * share_N).sum()
        logs = {"nll": nll, "kl": kl}
        if distance_N is not None:
            logs["perceptual"] = (distance_N * share_N).sum()
        loss = nll + config.kl * kl
        if self.discriminator is None or turn.step < self._recipe.adversary.start_step:
            return StepOutput(loss=loss, logs=logs)
        adversarial = (hinge_generator(turn.nets["discriminator"](found.output_NCHW)) * share_N).sum()
        slopes = [torch.autograd.grad(each, self.net.last_weight, retain_graph=True)[0] for each in (nll, adversarial)]
        of_nll, of_adversarial = yield Sum(torch.stack(slopes), rerun=True)
        weight = self._recipe.adversary.weight * adaptive_weight(of_nll, of_adversarial)
        return StepOutput(
            loss=loss + weight * adversarial,
            logs={**logs, "adversarial": adversarial},
            on_log=lambda: {"adversary_weight": weight.item()},
        )

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Figures and a picture of held-out clips."""
        return self._validation(nets["autoencoder"]) if self._validation else {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The autoencoder with the mean and deviation of its latents over training clips."""
        assert self._shards is not None
        net = standardised(nets["autoencoder"], self._shards.split("train"))
        rights = self._recipe.model_dump(include={"licence", "authors"})
        save_model(net, folder, contract=self._recipe.network.contract, card=card, **rights)

    def advice(self) -> str:
        """How this task takes less memory."""
        return "--data.frames with fewer frames of a clip" if self._recipe.data.frames > 1 else ""

    def _noise(self, batch: ClipBatch) -> torch.Tensor:
        network, frames = self._recipe.network, batch.video_BCTHW.shape[2]
        side = network.size // network.scale
        return normal(batch.draw_B, frames, network.latent_channels, side, side, stream=Stream.LATENT).flatten(0, 1)

    def _distance(self, found: Reconstructed, batch: ClipBatch) -> torch.Tensor | None:
        """(N,) perceptual; in an encoder's features all frames of a clip have that of the clip."""
        if self._perceptual is None:
            return None
        if not isinstance(self._perceptual, PerceptualDistance):
            return self._perceptual(found.output_NCHW, found.seen_NCHW)
        frames, channels = batch.video_BCTHW.shape[2], self._perceptual.net.channels
        output = self.net.shown(found.output_NCHW).unflatten(0, (-1, frames)).transpose(1, 2)
        pair = (each.expand(-1, channels, -1, -1, -1) for each in (output, batch.video_BCTHW))
        return self._perceptual(*pair).repeat_interleave(frames)


def frames_of(video_BCTHW: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W), the frames of a clip one after another."""
    return video_BCTHW.transpose(1, 2).flatten(0, 1)


def _perceptual(recipe: LatentRecipe, encoder: str | None, lpips: Path | None) -> tuple[nn.Module | None, float | None]:
    """The frozen network in whose features frames are compared, and the rate of a batch's windows."""
    rate_hz = recipe.data.frame_rate_hz
    if encoder is not None and lpips is not None:
        raise EchofmError("--encoder and --lpips are two perceptual distances; give one")
    if lpips is not None:
        from echofm.loss.lpips import Lpips

        return Lpips(lpips), rate_hz
    if encoder is None:
        return None, rate_hz
    distance, frames = PerceptualDistance(load_encoder(encoder)), recipe.data.frames
    if distance.contract.size != recipe.network.size:
        raise EchofmError(
            f"--encoder sees frames of {distance.contract.size}, the autoencoder of {recipe.network.size}; "
            f"give --network.size {distance.contract.size} or another encoder"
        )
    if frames % distance.tubelet:
        raise EchofmError(f"--encoder takes frames by {distance.tubelet}; give --data.frames a multiple of it")
    return distance, distance.contract.frame_rate_hz
