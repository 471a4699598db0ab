"""Sample a set from a generator, clips in EchoNet-Dynamic's layout, frames on label maps in CAMUS'."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from echofm.errors import EchofmError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class SampleSet:
    """Sample a set from a generator, clips in EchoNet-Dynamic's layout, frames on label maps in CAMUS'.

    Clip n is the same whatever the number of clips and processes; give the same command again after an interruption
    and it goes on, with a larger --count and the set grows. Beside Videos/ and FileList.csv: set.json, what made it;
    provenance.jsonl, each clip's seed and condition; index.html, some of the clips. On several GPUs or cores:
    `torchrun --nproc_per_node 4 --no-python echofm synth sample ...`. Exit codes: 0 written, 2 bad input.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run of `echofm synth train`, its export, or a hub id."""
    out: Path
    """Folder of the set."""
    count: int = 100
    """Clips."""
    ef: Annotated[str | None, tyro.conf.arg(metavar="uniform|train|LIST")] = None
    """Ejection fractions: uniform over the training clips' range, spread as theirs, or percents in turn: 30,55,70."""
    view: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """One of the training clips' views."""
    time_point: Annotated[Literal["ED", "ES"] | None, tyro.conf.arg(metavar="ED|ES")] = None
    """Of single frames: end-diastole or end-systole."""
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[TEXT ...]")] = ()
    """Prompts, taken in turn: "apical four-chamber view, end-systole, poor image quality" (docs/maps.md)."""
    maps: Annotated[str | None, tyro.conf.arg(metavar="SHARDS:SPLIT")] = None
    """Label maps to draw frames on, at end-diastole and end-systole of each clip; the set is then in CAMUS' layout."""
    shape_model: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Not these maps but new ones, from a shape model of them."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="SHARDS:SPLIT")] = None
    """Real clips whose first frames are kept: their hearts with another ejection fraction."""
    motion: Annotated[str | None, tyro.conf.arg(metavar="PRIOR|TABLE")] = None
    """Of a video-motion generator: a run of `echofm synth train prior`, whose motion is nobody's, or a table of
    `echofm synth motion --windows 1`, whose clips' motion is taken in turn."""
    length: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Of a clip; by default as trained. Longer ones are overlapping windows denoised together."""
    steps: int = 25
    """Calls of the network for a clip; 1 for a generator of mean velocity."""
    guidance: float = 1.0
    """How much the condition is exaggerated, at middle noise levels; 1: not at all. On the phantom 2
    followed requests best."""
    filter: Annotated[str | None, tyro.conf.arg(metavar="ENCODER")] = None
    """Take out, and make anew, what comes closer to the training clips than new patients do, as seen by this encoder;
    needs --against."""
    against: Annotated[Path | None, tyro.conf.arg(metavar="SHARDS")] = None
    """Of --filter: shards with the generator's training clips as train, new patients as val."""
    seed: int = 0
    """Of all draws."""
    device: Device = "auto"
    """Torch device; auto: a GPU where there is one."""


def main(argv: list[str]) -> int:
    """`echofm synth sample`."""
    args = tyro.cli(SampleSet, args=argv, prog="echofm synth sample", description=SampleSet.__doc__)
    if args.count < 1:
        raise EchofmError(f"--count {args.count}: give 1 or more")
    if (args.filter is None) != (args.against is None):
        raise EchofmError("--filter and --against go together: what sees, and the clips that are not to be copied")
    if args.shape_model and args.maps is None:
        raise EchofmError("--shape-model draws maps like those of --maps: give both")
    if args.maps is not None and (args.ef or args.view or args.time_point or args.reference or args.length):
        raise EchofmError(
            "--maps says view and time point; leave --ef, --view, --time-point, --reference and --length out"
        )
    # Only now, so that --help needs no torch.
    from synth.generator.sampling import sample_set

    sample_set(args, ef=_asked(args.ef))
    return 0


def _asked(ef: str | None) -> str | list[float] | None:
    if ef is None or ef in ("uniform", "train"):
        return ef
    try:
        return [float(each) for each in ef.split(",")]
    except ValueError:
        raise EchofmError(f"--ef {ef!r}: give uniform, train, or percents as 30,55,70") from None
