"""Train a motion network, an autoencoder, a generator or a translator on shards."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from echofm.cli import chosen
from echofm.engine import command

# Name: a module with the `command.Trainer`; the first line of the module's docstring is its line in the overview.
_TRAINERS: dict[str, str] = {
    "mafe": "synth.mafe.train:TRAINER",
    "latent": "synth.latent.trainer:TRAINER",
    "image": "synth.generator.recipes.image:TRAINER",
    "prior": "synth.generator.recipes.prior:TRAINER",
    "text": "synth.generator.recipes.text:TRAINER",
    "text-map": "synth.generator.recipes.text_map:TRAINER",
    "control": "synth.generator.recipes.control:TRAINER",
    "video-ef": "synth.generator.recipes.video_ef:TRAINER",
    "video-motion": "synth.generator.recipes.video_motion:TRAINER",
    "video-onestep": "synth.generator.recipes.video_onestep:TRAINER",
    "translate": "synth.translate.trainer:TRAINER",
}


def main(argv: list[str]) -> int:
    """`echofm synth train TRAINER RECIPE --data SHARDS --out RUN`: any trainer of synth/ on the one engine."""
    trainers = {name: EntryPoint(name, value, "echofm.synth.trainers") for name, value in _TRAINERS.items()}
    entry = chosen(argv, trainers, command="echofm synth train", about=__doc__ or "", words="TRAINER RECIPE")
    return 0 if entry is None else command.main(argv[1:], entry.load())
