"""Motion features and generators: train them, sample sets, say what a synthetic set is worth."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from echofm.cli import chosen

_COMMANDS = {
    "compare": "synth.evaluate.compare_cli:main",
    "downstream": "synth.downstream.cli:main",
    "evaluate": "synth.evaluate.cli:main",
    "latents": "synth.latent.cli:main",
    "motion": "synth.mafe.motion:main",
    "sample": "synth.generator.cli:main",
    "train": "synth.train:main",
    "translate": "synth.translate.cli:main",
}


def main(argv: list[str]) -> int:
    """The sub-command that the first word names."""
    commands = {name: EntryPoint(name, value, "echofm.synth") for name, value in _COMMANDS.items()}
    entry = chosen(argv, commands, command="echofm synth", about=__doc__ or "")
    return 0 if entry is None else int(entry.load()(argv[1:]) or 0)
