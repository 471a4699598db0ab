"""Train a ControlNet branch for label maps on a trained generator of frames, which stays as it is."""

from __future__ import annotations

from synth.generator.building import trainer_of
from synth.generator.config import GeneratorRecipe
from synth.generator.recipes import image

_CONTROL = ("label-map",)


def demo() -> GeneratorRecipe:
    """Half as large again as its base (`text demo`), half an hour on two CPU cores, estimated.

    echofm synth train control demo --data SHARDS --base RUN/export --out RUN
    """
    return image.demo().model_copy(update={"conditions": (), "control": _CONTROL})


def base() -> GeneratorRecipe:
    """Half as large again as its base (`text base`), one GPU.

    echofm synth train control base --data SHARDS --base RUN/export --out RUN
    """
    return image.base().model_copy(update={"conditions": (), "control": _CONTROL})


TRAINER = trainer_of("control", __doc__ or "", demo, base)
