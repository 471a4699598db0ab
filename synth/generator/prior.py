"""A prior of motion: the one GeneratorTask, in the numbers of a motion network instead of latents of clips."""

from __future__ import annotations

from echofm.augment import fit_to
from echofm.contract import InputContract
from echofm.engine.held_out import held_out
from echofm.errors import EchofmError
from echofm.shards.read import ShardSet
from synth.generator.config import GeneratorRecipe
from synth.generator.frozen import Seen
from synth.generator.task import GeneratorTask
from synth.latent.codec import MotionCodec
from synth.mafe.extract import MotionEncoder, load_mafe
from synth.mafe.network import Mafe

_STANDARDISED_BY = 128


def prior_task(recipe: GeneratorRecipe, shards: ShardSet, *, motion: str | Mafe | None) -> GeneratorTask:
    """motion: the motion network, or its run. Raises EchofmError where it is missing or does not fit."""
    if motion is None:
        raise EchofmError("a prior of motion takes a motion network: give --motion RUN")
    if shards.manifest.latents is not None:
        raise EchofmError("--motion sees pixels: give the shards of pixels as --data")
    net = load_mafe(motion) if isinstance(motion, str) else motion
    data = recipe.data
    # Refuses windows of another length.
    Seen(MotionEncoder(net), data, name="--motion")
    codec = MotionCodec(net, frames=data.frames)
    contract = InputContract(size=codec.contract.size, frames=data.frames, frame_rate_hz=data.frame_rate_hz)
    windows = held_out(shards.split("train"), contract, clips=_STANDARDISED_BY)
    codec.standardise(fit_to(windows, contract).video_BCTHW)
    return GeneratorTask(recipe, shards, codec=codec)
