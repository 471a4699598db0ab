"""Colour Doppler to greyscale on phantoms: what `make demo-translate` runs.

    python examples/demo_translate.py --out demo-translate

Phantom hearts with colour at 64 pixels, each with the grey of the same moments, train a translator; held-out patients'
clips are translated, written, and measured beside simple fill-ins. results.json has the figures, index.html the
pictures. All patients are phantoms.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro
from demo_steps import Steps, claim

from echofm.errors import EchofmError
from echofm.schema import FrozenModel

_SMALL = ["--network.structure-widths", "8", "16", "--network.texture-widths", "4", "8", "--fit.batch", "2"]


class Demo(FrozenModel):
    """From phantom hearts with colour to their translated clips, and a page about them."""

    out: Path = Path("demo-translate")
    """Folder for everything; an interrupted or finished demo of the same settings goes on."""
    patients: int = 240
    """Phantom patients, a clip each in one of three views."""
    frames: int = 40
    """Of each clip, 25 a second."""
    steps: int = 1000
    """Of the translator; the texture begins in the middle."""
    reader_steps: int = 400
    """Of the networks that read view and left ventricle."""
    seed: int = 0
    """Of the translator's training."""
    small: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Networks of a few thousand weights, which learn nothing: to see everything work."""


def main(argv: list[str]) -> int:
    """Run the demo; 0 when the page is written."""
    options = tyro.cli(Demo, args=argv, description=__doc__)
    out = options.out
    claim(options, out)
    steps = Steps(out)
    _made(options, steps)
    # Only now: torch takes a moment to import.
    from demo_translate_page import build
    from demo_translate_results import RESULTS, measured, save

    save(measured(out, reader_steps=options.reader_steps), out / RESULTS)
    steps.end(build(out, commands=steps.done))
    return 0


def _made(options: Demo, steps: Steps) -> None:
    out, echofm = options.out, steps.echofm
    data, shards, run = out / "data", out / "shards", out / "translator"
    # Starting processes takes longer than what they would do.
    alone = ["--processes", "1"] if options.small else []
    time = ["--frame-rate-hz", "25", "--frames", str(options.frames)]
    kept = ["--colour-fraction", "1", "--truth", "grey,clean"]
    who = ["--patients", str(options.patients), "--clips-per-patient", "1", "--views", "A4C,A2C,PLAX"]
    echofm("phantom", data, *who, "--size", "64", *time, *kept, *alone)
    echofm(
        "shards", data, shards, "--size", "64", "--fps", "native", "--channels", "3", "--kind", "colour_doppler", *alone
    )
    half = options.steps // 2
    begins = ["--texture-step", str(half + 1), "--adversary.start-step", str(half + options.steps // 10 + 1)]
    length = ["--resume", "--fit.steps", str(options.steps), "--fit.seed", str(options.seed), *begins]
    small = _SMALL if options.small else []
    echofm("synth", "train", "translate", "demo", "--data", shards, "--out", run, *length, *small)
    echofm("synth", "translate", run, f"{shards}:test", out / "grey")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EchofmError as error:
        sys.exit(f"demo: {error}")
