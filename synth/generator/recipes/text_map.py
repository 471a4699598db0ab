"""Train a generator of single frames by text and label map."""

from __future__ import annotations

from synth.generator.building import trainer_of
from synth.generator.config import GeneratorRecipe
from synth.generator.recipes import image

_CONDITIONS = ("text", "label-map")


def demo() -> GeneratorRecipe:
    """5 M parameters on 16 x 16 latents (4x, 64 pixels): half an hour on two CPU cores, estimated.

    echofm synth train text-map demo --data SHARDS --codec RUN/export --out RUN
    """
    return image.demo().model_copy(update={"conditions": _CONDITIONS})


def base() -> GeneratorRecipe:
    """40 M parameters on 32 x 32 latents (8x, 256 pixels), one GPU.

    echofm synth train text-map base --data SHARDS --codec RUN/export --out RUN
    """
    return image.base().model_copy(update={"conditions": _CONDITIONS})


TRAINER = trainer_of("text-map", __doc__ or "", demo, base)
