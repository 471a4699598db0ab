"""Turn echo files or shards into a table of embeddings.

Exit codes: 0 every echo has a row; 1 done, but some files were set aside (OUT/set_aside.jsonl says why); 2 bad input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from echofm.embed.options import LabelledEmbedOptions


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Turn echo files or shards into a table of embeddings: OUT/features.safetensors, rows.parquet and meta.json.

    Give the same command again after an interruption and it goes on. On several GPUs or machines, start it with
    `accelerate launch` or `torchrun`; the table is the same: `torchrun --nproc_per_node 4 --no-python echofm embed ...`
    """

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """Folder of an exported encoder, its hub id, or timm:NAME, hf:ID, official:PATH, ... (docs/backbones.md)."""
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A file, a folder, a data set, or shards."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder for the table."""
    phase: bool = True
    """Also keep the token-time features (phase), far larger than the clip features."""
    perturb: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KIND:STRENGTH")] = ()
    """Lay a fault of the image over every clip, of strength 0 to 1, to see what the features lose by it: attenuation,
    shadow, gain, haze, dropout, speckle; may be given several times."""
    embed: tyro.conf.OmitArgPrefixes[LabelledEmbedOptions] = field(default_factory=LabelledEmbedOptions)


def main(argv: list[str]) -> int:
    """`echofm embed`."""
    args = tyro.cli(Embed, args=argv, prog="echofm embed", description=Embed.__doc__)
    args.embed.check()
    # Only now, so that --help needs no torch.
    from echofm.acoustic import parsed_strength
    from echofm.backbones import open_encoder
    from echofm.embed.cache import embed_to
    from echofm.embed.own_labels import say_counts, say_notes
    from echofm.embed.run import joined_ranks
    from echofm.embed.table import EmbeddingTable

    options, perturb = args.embed, parsed_strength(args.perturb)
    with joined_ranks(options.torch_device) as ranks:
        encoder = open_encoder(args.encoder, trust_remote_code=options.trust_remote_code).to(ranks.device)
        videos = options.videos(args.src, show_progress=ranks.is_main_process)
        extractor = options.extractor(
            encoder, device=ranks.device, phase=args.phase, tokens=options.grid, perturb=perturb
        )
        if ranks.is_main_process:
            say_notes(videos.options.labels, print)
        outcome = embed_to(args.out, extractor, videos.input(encoder.contract), cache=options.cache, ranks=ranks)
    if outcome is None:
        return 0
    print(outcome.summary(args.out))
    if videos.options.labels is not None:
        say_counts(videos.options.labels, EmbeddingTable.load(args.out), print)
    return 1 if outcome.unused else 0
