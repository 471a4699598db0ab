"""Write the latents of a codec, once, as shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class WriteLatents:
    """Write the latents of every clip as shards beside those of the pixels, which generators are then trained on.

    The mean of the posterior, standardised by channel, float16; ids, splits, labels, times, phase, views and masks
    stay. Give the same command again after an interruption and it goes on. Exit codes: 0 written, 2 bad input.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run of `echofm synth train latent`, its export, or diffusers:FOLDER?grey_unit=127.5."""
    shards: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS")]
    """Shards of pixels, of the codec's size."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write; must not exist."""
    device: str = "auto"
    """Torch device that encodes; auto: a GPU where there is one."""


def main(argv: list[str]) -> int:
    """`echofm synth latents`."""
    args = tyro.cli(WriteLatents, args=argv, prog="echofm synth latents", description=WriteLatents.__doc__)
    # Only now, so that --help needs no torch.
    import torch

    from echofm.shards.read import ShardSet
    from synth.latent.codec import open_codec
    from synth.latent.write import write_latents_of

    shards = ShardSet.open(args.shards)
    codec = open_codec(args.run, size=shards.manifest.settings.size)
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    write_latents_of(codec.to(auto if args.device == "auto" else args.device), shards, args.out)
    return 0
