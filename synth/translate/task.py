"""TranslateTask: a structure network, then a texture network and its discriminator, on pairs of colour and grey.

Shapes: B clips, C channels, T frames, H rows, W columns; N pairs of frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from echofm.augment import fit_to
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.held_out import held_out
from echofm.engine.player import Player
from echofm.engine.task import Figure, Loss, Nets, StepOutput, Sum, Task, Turn
from echofm.errors import EchofmError
from echofm.hub import load_encoder, save_model
from echofm.loss.adversarial import adaptive_weight, hinge_discriminator, hinge_generator
from echofm.loss.perceptual import PerceptualDistance
from echofm.shards.carry import Carry, check_carry
from echofm.shards.read import ShardSet
from synth.latent.discriminator import PatchDiscriminator
from synth.translate.config import TranslateRecipe
from synth.translate.drawn import with_drawn_colour
from synth.translate.texture import energy_score, local_spread
from synth.translate.translator import Seen, Translator, noise_of, seen_of, texture_input
from synth.translate.validate import Validation

# At the networks' own rate its scores become one number within some steps, and stay it.
_SLOWER = 1 / 6


class TranslateTask(Task):
    """Players `structure`, `texture` and, where the adversary has weight, `discriminator`.

    shards: in colour with the grey of the same moments (`paired`), or grey, and colour is then drawn onto them
    (`synth.translate.drawn`). encoder: an export in whose features clips are compared. Raises EchofmError on others.
    """

    def __init__(self, recipe: TranslateRecipe, shards: ShardSet, *, encoder: str | None = None) -> None:
        self._recipe = recipe
        size, frames = recipe.network.size, recipe.data.frames
        self._distance = None if encoder is None else _distance(recipe, encoder)
        rate_hz = recipe.data.frame_rate_hz if self._distance is None else self._distance.contract.frame_rate_hz
        self.contract = InputContract(size=size, frames=frames, frame_rate_hz=rate_hz, channels=3, colour="rgb")
        self._draws = shards.manifest.settings.channels == 1
        self.carry: Sequence[Carry] = ["beam"] if self._draws else ["paired"]
        check_carry(self.carry, shards.split("train"))
        torch.manual_seed(recipe.fit.seed)
        self.net = Translator(recipe.network)
        adversary = recipe.adversary
        self.discriminator = (
            PatchDiscriminator(channels=3, width=adversary.width, layers=adversary.layers) if adversary.weight else None
        )
        self._validation: Validation | None = None
        if recipe.monitor.every:
            val = held_out(shards.split("val"), self.contract, clips=recipe.monitor.clips, carry=self.carry)
            self._validation = Validation(self.prepare(val))

    def players(self) -> list[Player]:
        """The two networks and the second one's adversary."""
        recipe, fit = self._recipe, self._recipe.fit
        found = [
            Player(name="structure", net=self.net.structure, optim=fit.optim, ema_decay=fit.ema_decay),
            Player(
                name="texture",
                net=self.net.texture,
                optim=fit.optim,
                ema_decay=fit.ema_decay,
                start_step=recipe.texture_step,
            ),
        ]
        if self.discriminator is not None:
            slow = fit.optim.model_copy(update={"base_lr": fit.optim.base_lr * _SLOWER})
            start = recipe.adversary.start_step
            found.append(Player(name="discriminator", net=self.discriminator, optim=slow, start_step=start))
        return found

    def frozen(self) -> Mapping[str, nn.Module]:
        """The network in whose features clips are compared."""
        return {} if self._distance is None else {"perceptual": self._distance}

    def prepare(self, batch: ClipBatch) -> ClipBatch:
        """Bring the clips to the network's size, and draw colour onto them where they have none."""
        batch = fit_to(batch, self.contract)
        return with_drawn_colour(batch) if self._draws else batch

    def loss(self, batch: ClipBatch, turn: Turn) -> Loss:
        """The batch's share of the loss of the player whose turn it is."""
        seen = seen_of(batch.video_BCTHW, batch.sector_BHW)
        if turn.player == "structure":
            return self._structure(batch, turn, seen)
        with torch.no_grad():
            structure = Translator.composed(seen, turn.nets["structure"](seen.input_BCTHW))
            noise = noise_of(batch.draw_B, structure.shape[2], structure.shape[3])
        if turn.player == "texture":
            return self._texture(batch, turn, seen, structure, noise)
        with torch.no_grad():
            given = texture_input(seen, structure, noise)
            textured = structure + turn.nets["texture"](given) * seen.mask_B1THW
        return self._judged(batch, turn, seen, textured)

    def validate(self, nets: Nets, step: int) -> Mapping[str, Figure]:
        """Figures and a picture of held-out clips."""
        return self._validation(self._assembled(nets)) if self._validation else {}

    def export(self, folder: Path, nets: Nets, *, card: Mapping[str, Any]) -> None:
        """The two networks as one translator."""
        rights = self._recipe.model_dump(include={"licence", "authors"})
        net = self._assembled(nets)
        save_model(net, folder, contract=net.config.contract, card=card, **rights)

    def advice(self) -> str:
        """How this task takes less memory."""
        return "--data.frames with fewer frames of a clip"

    def _assembled(self, nets: Nets) -> Translator:
        net = Translator(self._recipe.network)
        net.structure, net.texture = nets["structure"], nets["texture"]
        return net

    def _structure(self, batch: ClipBatch, turn: Turn, seen: Seen) -> Loss:
        output = Translator.composed(seen, turn.net(seen.input_BCTHW))
        hidden = seen.mask_B1THW * batch.valid_BT[:, None, :, None, None]
        pixels, frames = yield Sum(torch.stack([hidden.sum(), batch.valid_BT.sum()]))
        target = _target(batch, seen)
        error = ((output - target).abs() * hidden).sum() / pixels.clamp(min=1)
        loss, logs = error, {"l1": error}
        if self._distance is not None:
            logs["perceptual"] = self._apart(output, target, batch, frames)
            loss = loss + self._recipe.objective.perceptual * logs["perceptual"]
        return StepOutput(loss=loss, logs=logs)

    def _texture(self, batch: ClipBatch, turn: Turn, seen: Seen, structure: torch.Tensor, noise: torch.Tensor) -> Loss:
        # Two draws of the noise: turned upside down it is another one.
        given = [texture_input(seen, structure, each) for each in (noise, noise.flip(3))]
        output, second = (structure + each * seen.mask_B1THW for each in turn.net(torch.cat(given)).chunk(2))
        hidden = (seen.mask_B1THW * batch.valid_BT[:, None, :, None, None]).to(output.dtype)
        covered = _covered(batch, seen)
        pixels, frames, judged = yield Sum(torch.stack([hidden.sum(), batch.valid_BT.sum(), covered.sum()]))
        target, config = _target(batch, seen), self._recipe.objective
        spread = (local_spread(output, hidden) - local_spread(target, hidden)).abs()
        logs = {
            "energy": (energy_score(output, second, target) * hidden).sum() / pixels.clamp(min=1),
            "spread": (spread * hidden).sum() / pixels.clamp(min=1),
        }
        loss = logs["energy"] + config.spread * logs["spread"]
        if self._distance is not None:
            logs["perceptual"] = self._apart(output, target, batch, frames)
            loss = loss + config.perceptual * logs["perceptual"]
        if self.discriminator is None or turn.step < self._recipe.adversary.start_step:
            return StepOutput(loss=loss, logs=logs)
        score_N1HW = turn.nets["discriminator"](_shown(output, seen))
        share_P = _shares(covered, score_N1HW) / judged.clamp(min=1)
        adversarial = (hinge_generator(score_N1HW.reshape(-1, 1)) * share_P).sum()
        last = self.net.texture.last.weight
        slopes = [torch.autograd.grad(each, last, retain_graph=True)[0] for each in (loss, adversarial)]
        of_rest, of_adversarial = yield Sum(torch.stack(slopes), rerun=True)
        weight = self._recipe.adversary.weight * adaptive_weight(of_rest, of_adversarial)
        return StepOutput(
            loss=loss + weight * adversarial,
            logs={**logs, "adversarial": adversarial},
            on_log=lambda: {"adversary_weight": weight.item()},
        )

    def _judged(self, batch: ClipBatch, turn: Turn, seen: Seen, textured: torch.Tensor) -> Loss:
        covered = _covered(batch, seen)
        judged = yield Sum(covered.sum())
        both = torch.cat([_shown(_target(batch, seen), seen), _shown(textured, seen)])
        real_N1HW, output_N1HW = turn.net(both).chunk(2)
        share_P = _shares(covered, real_N1HW) / judged.clamp(min=1)
        real_P, output_P = real_N1HW.flatten(), output_N1HW.flatten()
        loss = (hinge_discriminator(real_P[:, None], output_P[:, None]) * share_P).sum()
        scores = {"score_of_real": (real_P * share_P).sum(), "score_of_output": (output_P * share_P).sum()}
        return StepOutput(loss=loss, logs=scores)

    def _apart(
        self, output: torch.Tensor, target: torch.Tensor, batch: ClipBatch, frames: torch.Tensor
    ) -> torch.Tensor:
        """Mean perceptual distance of the batch's clips, by their frames."""
        assert self._distance is not None
        channels = self._distance.net.channels
        pair = (each.expand(-1, channels, -1, -1, -1) for each in (output, target))
        return (self._distance(*pair) * batch.valid_BT.sum(1)).sum() / frames


def _target(batch: ClipBatch, seen: Seen) -> torch.Tensor:
    """The clip as read, with the true grey under the mask."""
    assert batch.paired_BCTHW is not None
    return torch.where(seen.mask_B1THW, batch.paired_BCTHW, seen.grey_B1THW)


def _shown(video_B1THW: torch.Tensor, seen: Seen) -> torch.Tensor:
    """(N, 3, H, W) two frames in a row and the second one's mask: what the discriminator judges."""
    mask = seen.mask_B1THW[:, :, 1:].to(video_B1THW.dtype)
    pair = torch.cat([video_B1THW[:, :, :-1], video_B1THW[:, :, 1:], mask], 1)
    return pair.transpose(1, 2).flatten(0, 1)


def _covered(batch: ClipBatch, seen: Seen) -> torch.Tensor:
    """(N, 1, H, W) the masks of the second frames of pairs, 0 where a pair is not the clip's own."""
    own_BT = batch.valid_BT[:, :-1] & batch.valid_BT[:, 1:]
    covered = seen.mask_B1THW[:, :, 1:] & own_BT[:, None, :, None, None]
    return covered.transpose(1, 2).flatten(0, 1).float()


def _shares(covered_N1HW: torch.Tensor, score_N1HW: torch.Tensor) -> torch.Tensor:
    """(P,) hidden pixels of each patch: where nothing is hidden, real and output are alike and teach nothing."""
    rows, columns = score_N1HW.shape[-2:]
    pixels = covered_N1HW.shape[-1] * covered_N1HW.shape[-2] / (rows * columns)
    return F.adaptive_avg_pool2d(covered_N1HW, (rows, columns)).flatten() * pixels


def _distance(recipe: TranslateRecipe, encoder: str) -> PerceptualDistance:
    distance = PerceptualDistance(load_encoder(encoder))
    if distance.contract.size != recipe.network.size:
        raise EchofmError(
            f"--encoder sees frames of {distance.contract.size}, the translator of {recipe.network.size}; "
            f"give --network.size {distance.contract.size} or another encoder"
        )
    if recipe.data.frames % distance.tubelet:
        raise EchofmError(f"--encoder takes frames by {distance.tubelet}; give --data.frames a multiple of it")
    return distance
