"""`python -m benchmarks.run [step|embed|load|memory|contrast|gpu|all ...]`: ratios against the baselines, as a table.

Without a part named: step, embed and load, some minutes on two cores. Close other programs first: the ratios bear
with a slow spell of the machine, not with a busy one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
import tyro

from benchmarks.contrast import contrast_rows
from benchmarks.gpu import gpu_rows
from benchmarks.loading import load_rows
from benchmarks.memory import memory_rows
from benchmarks.model_speed import embed_rows, step_rows
from benchmarks.pair import Dtype, Size
from benchmarks.timing import TABLE_HEAD, Row, header
from echofm.errors import EchofmError

Part = Literal["step", "embed", "load", "memory", "contrast", "gpu"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured, and how often."""

    parts: Annotated[tuple[Part | Literal["all"], ...], tyro.conf.Positional] = ("step", "embed", "load")
    """`all` is everything but `gpu`."""
    size: Size = "base"
    """base: ViT-B; large: the published ViT-L; tiny only runs the code."""
    dtype: Dtype | Literal["both"] = "both"
    """Of EchoFM's side; the baseline is fp32."""
    threads: int = 2
    rounds: int = 3
    """Timed rounds, after an untimed one."""
    clock: Literal["wall", "cpu"] = "wall"
    """Of step, embed and contrast. cpu: this process's CPU time, for a machine that others use too; give `--threads 1`
    with it, since a thread that waits for another counts as busy."""
    device: str = "cuda"
    """Of the part `gpu`."""
    clips: int = 8
    """Clips per step of the part `gpu`."""
    videos: int = 24
    """Videos made for the part `load`."""


def run(options: Options) -> Iterator[Row]:
    """Rows of all parts asked for, in the order of `Part`, each part's as soon as it is done."""
    dtypes = get_args(Dtype) if options.dtype == "both" else (options.dtype,)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    asked = set(get_args(Part)) - {"gpu"} if "all" in options.parts else set(options.parts)
    if "step" in asked:
        yield from step_rows(options.size, dtypes, rounds=options.rounds, clock=clock)
    if "embed" in asked:
        yield from embed_rows(options.size, dtypes, rounds=options.rounds, clock=clock)
    if "load" in asked:
        yield from load_rows(videos=options.videos, rounds=options.rounds)
    if "memory" in asked:
        yield from memory_rows(options.size, dtypes, threads=options.threads)
    if "contrast" in asked:
        yield from contrast_rows(rounds=options.rounds, clock=clock)
    if "gpu" in asked:
        yield from gpu_rows(options.size, device=options.device, clips=options.clips, rounds=options.rounds)


def main() -> None:
    """Print the header, then the table's rows as they are measured."""
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    print(header(), TABLE_HEAD, sep="\n\n", flush=True)
    try:
        for row in run(options):
            print(row.markdown(), flush=True)
    except EchofmError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
