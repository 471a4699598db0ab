"""The trainer of every generator recipe: what it begins from beside shards, and how its task is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from echofm.engine.command import Trainer

if TYPE_CHECKING:
    from echofm.shards.read import ShardSet
    from synth.generator.config import GeneratorRecipe
    from synth.generator.task import GeneratorTask


@dataclass(frozen=True)
class Inputs:
    """The frozen networks that a generator begins from."""

    codec: Annotated[str, tyro.conf.arg(metavar="RUN")] = "pixels"
    """What it generates in: an autoencoder's export, or pixels."""
    encoder: Annotated[str | None, tyro.conf.arg(metavar="E")] = None
    """An encoder of ours, trained on the training split: for the condition `embedding` and for --repa.weight."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """A motion network (`echofm synth train mafe echofm`), for the condition `motion`."""
    init: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """A trained generator whose weights it begins from; conditions that it lacks begin anew."""
    base: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """A trained generator, for --control: its codec is taken, --codec left out."""


@dataclass(frozen=True)
class PriorInputs:
    """The frozen network that a prior of motion begins from."""

    motion: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """A motion network (`echofm synth train mafe echofm`): that of the generator that the motion is for."""


def build(
    recipe: GeneratorRecipe,
    shards: ShardSet,
    *,
    codec: str = "pixels",
    encoder: str | None = None,
    motion: str | None = None,
    init: str | None = None,
    base: str | None = None,
) -> GeneratorTask:
    """The task of a recipe on shards of pixels, or of the codec's latents."""
    from echofm.hub import load_encoder
    from synth.generator.sampling import open_generator
    from synth.generator.task import GeneratorTask
    from synth.latent.codec import open_codec

    begun = None if base is None else open_generator(base, device="cpu")
    opened = open_codec(codec, size=shards.manifest.settings.size) if begun is None else begun.codec
    moved = None
    if motion is not None:
        from synth.mafe.extract import MotionEncoder, load_mafe

        moved = MotionEncoder(load_mafe(motion))
    seen = None if encoder is None else load_encoder(encoder)
    task = GeneratorTask(recipe, shards, codec=opened, encoder=seen, motion=moved, base=begun)
    if init is not None:
        task.begin_from(open_generator(init, device="cpu"))
    return task


def trainer_of(name: str, about: str, *sizes: Callable[[], Any]) -> Trainer:
    """Of a recipe's sizes, functions called demo, base and published."""
    recipes = {size.__name__: size for size in sizes}
    return Trainer(f"echofm synth train {name}", about, recipes, build, Inputs)
