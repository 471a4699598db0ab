"""From nothing to an audited synthetic set on two CPU cores: what `make demo-synth` runs.

    python examples/demo_synth.py --out demo-synth

Phantom hearts (`echofm phantom`, rendered at 112 pixels) become an encoder, an autoencoder, motion features, a
generator of clips by ejection fraction and one by motion, a set of clips in EchoNet-Dynamic's layout (demo-synth/set)
that a filter went over, its audit, results.json and a page. Every step but the last two is a command that you could
type. Give the same command again after an interruption and it goes on; what is done is not done again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from demo_steps import DemoOptions, Steps, begun
from PIL import Image

from echofm.errors import EchofmError

# Nobody trained it on these patients; a random network needs no download.
_JUDGE = "timm:resnet18?frames=16&size=64&random"


class Demo(DemoOptions):
    """From phantom hearts to an audited synthetic set and a page about it."""

    out: Path = Path("demo-synth")
    patients: int = 600
    """Phantom patients, one clip each; about 70 % train."""
    clips: int = 200
    """Of the set."""
    measured: int = 96
    """Held-out patients on whom the generators are measured."""
    encoder_steps: int = 400
    """Of `echofm pretrain demo`."""
    codec_steps: int = 2400
    """Of the autoencoder."""
    mafe_steps: int = 200
    """Of the motion features."""
    video_steps: int = 1000
    """Of `video-ef`; the two others begin from its weights."""
    tuned_steps: int = 120
    """Of `video-motion`, and of `video-onestep`."""
    steps: int = 25
    """Sampling steps."""
    guidance: float = 2.0
    """Of the set."""


def main(argv: list[str]) -> int:
    """Run the demo, or go on with it; 0 when the page is written."""
    options, steps = begun(Demo, argv, __doc__)
    out = options.out
    _train(options, steps)
    _sample(options, steps)
    # Only now: torch takes a moment to import.
    from demo_synth_figures import RESULTS, measure
    from demo_synth_page import build

    if not (out / RESULTS).is_file():
        measure(out, clips=options.measured, steps=options.steps)
    steps.end(build(out, commands=steps.done))
    return 0


def _train(options: Demo, steps: Steps) -> None:
    out, half = options.out, ["--fit.precision", "bf16"] if _fast_in_bf16() else []
    small = _SMALL if options.small else {}

    def trained(name: str, *words: str | Path, length: int) -> Path:
        """A run that goes on where it was broken off; its export."""
        where = ["--out", out / name, "--resume", "--fit.steps", str(length)]
        steps.echofm(*words, *where, *small.get(name, []))
        if not (out / name / "state" / f"step_{length:08d}").is_dir():
            raise EchofmError("stopped; give the same command again and it goes on")
        return out / name / "export"

    data, shards, latents = out / "data", out / "shards", out / "latents"
    # One rate for all: what is generated and what is real are then embedded alike.
    hearts = ["--clips-per-patient", "1", "--views", "A4C", "--frame-rate-hz", "12.5", "--frames", "24"]
    steps.echofm("phantom", data, "--patients", str(options.patients), *hearts)
    steps.echofm("shards", data, shards, "--size", "64", "--fps", "native")
    varied = ["--data.gain", "0.3", "--data.contrast", "0.3"]
    encoder = trained("encoder", "pretrain", "demo", "--data", shards, *varied, *half, length=options.encoder_steps)
    train = ("synth", "train")
    codec = trained("codec", *train, "latent", "demo", "--data", shards, *half, length=options.codec_steps)
    steps.echofm("synth", "latents", codec, shards, latents)
    mafe = trained("mafe", *train, "mafe", "demo", "--data", shards, "--encoder", encoder, length=options.mafe_steps)
    stored, pixels = ["--data", latents, "--codec", codec], ["--data", shards, "--codec", codec]
    ef = trained("ef", *train, "video-ef", "demo", *stored, *half, length=options.video_steps)
    tuned = {"length": options.tuned_steps}
    trained("onestep", *train, "video-onestep", "demo", *stored, "--init", ef, **tuned)
    trained("motion", *train, "video-motion", "demo", *pixels, "--motion", mafe, "--init", ef, *half, **tuned)


def _sample(options: Demo, steps: Steps) -> None:
    out = options.out
    # From first frames of hearts that nothing was trained on: trained so briefly, its own are blurred.
    asked = ["--ef", "uniform", "--view", "A4C", "--reference", f"{out / 'shards'}:test"]
    asked += ["--count", str(options.clips), "--guidance", str(options.guidance)]
    # What learns nothing makes noise, in which no sector is found: nothing to filter, the whole frame to audit.
    judged = [] if options.small else ["--filter", _JUDGE, "--against", out / "shards"]
    words = [*asked, "--steps", str(options.steps), *judged, "--out", out / "set"]
    steps.echofm("synth", "sample", out / "ef" / "export", *words)
    real = ["--train", f"{out / 'shards'}:train", "--holdout", f"{out / 'shards'}:val"]
    words = ["--synthetic", out / "set", "--encoder", out / "encoder" / "export", "--out", out / "audit"]
    if options.small:
        Image.new("L", (64, 64), 255).save(out / "whole.png")
        words += ["--mask", out / "whole.png"]
    steps.echofm("audit", *real, *words, may_find=True)


def _fast_in_bf16() -> bool:
    """Whether the processor has units for it; without, bf16 is slower than fp32."""
    about = Path("/proc/cpuinfo")
    return about.is_file() and any(flag in about.read_text() for flag in ("avx512_bf16", "amx_bf16"))


_TINY = ["--monitor.every", "0", "--fit.batch", "4"]
_NARROW = [*_TINY, "--network.width", "32", "--network.depth", "1", "--network.heads", "2"]
_SMALL = {
    "encoder": [*_NARROW, "--network.decoder-width", "32"],
    "codec": [*_TINY, "--network.widths", "8"],
    "mafe": _TINY,
    "ef": _NARROW,
    "onestep": _NARROW,
    "motion": _NARROW,
}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except EchofmError as error:
        sys.exit(f"demo: {error}")
