"""Frames by class, by text, and by text and label map, and what they teach: what `make demo-text` runs.

    python examples/demo_text.py --out demo-text

Phantom hearts in CAMUS' layout at 64 pixels become an autoencoder and three generators; sets are drawn on the training
patients' label maps, on held-out patients' and on maps of a shape model, in CAMUS' layout; segmentation and ED/ES are
learnt from real, synthetic and both. results.json has the figures, index.html the pictures. All patients are phantoms.
"""

from __future__ import annotations

import sys
from pathlib import Path

from demo_steps import DemoOptions, Steps, begun
from PIL import Image

from echofm.errors import EchofmError

_GENERATORS = {"image": ["--conditions", "view", "time-point"], "text": [], "text-map": []}
# Of a few thousand weights.
_SMALL_CODEC = ["--network.widths", "8", "--fit.batch", "2", "--monitor.every", "0"]
_SMALL = [
    "--network.width",
    "16",
    "--network.depth",
    "1",
    "--network.heads",
    "2",
    "--fit.batch",
    "4",
    "--monitor.every",
    "0",
]


class Demo(DemoOptions):
    """From phantom hearts to three generators of frames, and a page about them."""

    out: Path = Path("demo-text")
    patients: int = 160
    """Phantom patients, two views each; 60 % train, 30 % test."""
    size: int = 96
    """Pixels a side at which they are rendered."""
    codec_steps: int = 1000
    """Of the autoencoder."""
    generator_steps: int = 3000
    """Of each generator."""
    count: int = 200
    """Hearts of each set, two frames each."""
    downstream_steps: int = 300
    """Of each downstream training."""
    seeds: int = 3
    """Of downstream trainings."""


def main(argv: list[str]) -> int:
    """Run the demo; 0 when the page is written."""
    options, steps = begun(Demo, argv, __doc__)
    out = options.out
    _made(options, steps)
    # Only now: torch takes a moment to import.
    from demo_text_figures import RESULTS, measured
    from demo_text_page import build

    measured(out, seed=0, steps=options.downstream_steps).save(out / RESULTS)
    steps.end(build(out, commands=steps.done))
    return 0


def _made(options: Demo, steps: Steps) -> None:
    out, echofm = options.out, steps.echofm
    data, shards, latents = out / "data", out / "shards", out / "latents"
    short = ["--frames", "10", "--frame-rate-hz", "14"] if options.small else []
    # Starting processes takes longer than what they would do.
    alone = ["--processes", "1"] if options.small else []
    size = ["--size", str(options.size), *short, *alone]
    echofm("phantom", data, "--layout", "camus", "--patients", str(options.patients), *size)
    _split(data)
    echofm("shards", data, shards, "--size", "64", "--fps", "native", *alone)
    train, codec, whole = ("synth", "train"), out / "codec", out / "whole.png"
    Image.new("L", (64, 64), 255).save(whole)
    small_codec, small = (_SMALL_CODEC, _SMALL) if options.small else ([], [])
    length = ["--resume", "--fit.steps", str(options.codec_steps)]
    echofm(*train, "latent", "demo", "--data", shards, "--out", codec, *length, *small_codec)
    echofm("synth", "latents", codec, shards, latents)
    length = ["--resume", "--fit.steps", str(options.generator_steps)]
    begun = ["--data", latents, "--codec", codec, *length, *small]
    for name, words in _GENERATORS.items():
        echofm(*train, name, "demo", *begun, "--out", out / name, *words)
    for name, split, words in (("set", "train", []), ("held-out", "test", []), ("drawn", "train", ["--shape-model"])):
        maps = ["--maps", f"{shards}:{split}", *words, "--count", str(options.count)]
        echofm("synth", "sample", out / "text-map", "--out", out / name, *maps)
        # Every pixel as the generator made it.
        read = ["--size", "64", "--fps", "native", "--mask", whole, *alone]
        echofm("shards", out / name, out / f"{name}-shards", *read)
    for task in ("segmentation", "phase"):
        sets = ["--real", f"{shards}:train", "--synthetic", f"{out / 'set-shards'}:train", "--test", f"{shards}:test"]
        how = ["--seeds", str(options.seeds), "--steps", str(options.downstream_steps)]
        echofm("synth", "downstream", task, *sets, "--out", out / task, *how)


def _split(data: Path) -> None:
    """Its own splits hold out one patient in ten; here three of ten are to be tested on."""
    patients = sorted(path.name for path in (data / "database_nifti").iterdir())
    dealt = {"training": (0, 1, 2, 3, 4, 5), "validation": (6,), "testing": (7, 8, 9)}
    for name, numbers in dealt.items():
        own = [patient for number, patient in enumerate(patients) if number % 10 in numbers]
        (data / "database_split" / f"subgroup_{name}.txt").write_text("\n".join(own) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EchofmError as error:
        sys.exit(f"demo: {error}")
