"""Turn echo files or shards into a table of embeddings.

Exit codes: 0 every file has a row; 1 done, but some files were set aside (OUT/set_aside.jsonl says why); 2 bad input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from echofm.readers.patients import PatientFrom
from echofm.schema import FrozenModel


class Embed(FrozenModel):
    """Turn echo files or shards into a table of embeddings: OUT/features.safetensors, rows.parquet and meta.json.

    Give the same command again after an interruption and it goes on. On several GPUs or machines, start it with
    `accelerate launch` or `torchrun` (`torchrun --nproc_per_node 4 -m echofm.cli embed ...`): the table is the same.
    """

    encoder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENCODER")]
    """Folder of an exported encoder, its hub id, or timm:NAME, hf:ID, official:PATH, ... (docs/backbones.md)."""
    src: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SRC")]
    """A file, a folder, a data set, or shards."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder for the table."""
    windows: Annotated[int, Field(gt=0)] | None = None
    """Windows per clip, spread evenly and averaged; by default as many as cover the whole clip."""
    phase: bool = True
    """Also keep the token-time features (phase), far larger than the clip features."""
    tokens: Annotated[str, tyro.conf.arg(metavar="T,R,C")] | None = None
    """Also keep the tokens of each clip's middle window, pooled to this grid of times, rows and columns (4,7,7);
    attentive probes and the audit's re-identification read them."""
    batch: Annotated[int, Field(gt=0)] = 16
    """Windows per forward pass; does not change the features."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: faster where the hardware has it; features differ in the third digit, and do not mix with fp32 ones."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    processes: Annotated[int, Field(gt=0)] = 2
    """Reader processes per embedding process; shards need none."""
    dataset: str | None = None
    """Name of the public set in the folder; by default found by looking."""
    patient_from: PatientFrom | None = None
    """What tells patients apart in a plain folder."""
    max_clip_mb: Annotated[float, Field(gt=0)] = 1024
    """Files that decode to more are set aside, 10^6 bytes."""
    max_seconds: Annotated[float, Field(gt=0)] = 120
    """Files that take longer to read are set aside."""
    trust_remote_code: bool = False
    """Run the code of a torchhub: repository."""
    id_key: Path | None = None
    """File with the key of the ids; by default your own."""


def main(argv: list[str]) -> int:
    """`echofm embed`."""
    args = tyro.cli(Embed, args=argv, prog="echofm embed", description=Embed.__doc__)
    # Only now, so that --help needs no torch.
    import torch
    from accelerate import PartialState

    from echofm.backbones import open_encoder
    from echofm.embed.extract import Extractor
    from echofm.embed.inputs import open_input
    from echofm.embed.run import RANK_PATIENCE, Run, carry_out
    from echofm.embed.tokens import parse_grid
    from echofm.errors import EchofmError
    from echofm.ids import load_key
    from echofm.readers.limits import Limits

    if args.device == "cuda" and not torch.cuda.is_available():
        raise EchofmError("--device cuda: this torch sees no CUDA device; use --device cpu")
    # Without a GPU accelerate joins the processes of torchrun only if told that the CPU is meant.
    on_cpu = args.device == "cpu" or not torch.cuda.is_available()
    ranks = PartialState(cpu=on_cpu, timeout=RANK_PATIENCE)
    try:
        encoder = open_encoder(args.encoder, trust_remote_code=args.trust_remote_code).to(ranks.device)
        source = open_input(
            args.src,
            contract=encoder.contract,
            key=load_key(args.id_key),
            processes=args.processes,
            dataset=args.dataset,
            patient_from=args.patient_from,
            limits=Limits(max_clip_mb=args.max_clip_mb, max_seconds=args.max_seconds),
            show_progress=ranks.is_main_process,
        )
        extractor = Extractor(
            encoder=encoder,
            windows=args.windows,
            batch=args.batch,
            device=ranks.device,
            precision=args.precision,
            phase=args.phase,
            tokens=parse_grid(args.tokens) if args.tokens is not None else None,
        )
        run = Run(args.out, source, extractor, rank=ranks.process_index, world=ranks.num_processes)
        outcome = carry_out(run, ranks)
    finally:
        ranks.destroy_process_group()
    if outcome is None:
        return 0
    print(outcome.summary(args.out))
    return 1 if outcome.set_aside else 0
