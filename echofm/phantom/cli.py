"""Make a folder of phantom echo clips with known answers, in the layout of a public set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError
from echofm.phantom import LayoutName
from echofm.phantom.acquisition import Spread


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Make a folder of phantom echo clips with known answers, in the layout of a public set."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """New or empty folder, or one that a killed run with the same options left behind: its whole clips are kept."""
    patients: int = 200
    """Number of patients."""
    clips_per_patient: int = 2
    """Clips of each, with one anatomy and different acquisitions."""
    views: Annotated[str | None, tyro.conf.arg(metavar="LIST")] = None
    """Comma-separated, of A4C,A2C,PLAX,PSAX, taken in turn; by default those of the layout's real set."""
    layout: LayoutName = "echonet-dynamic"
    """Files and tables as this public set has them."""
    seed: int = 0
    """Same seed, same bytes."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Pixels a side of the image; by default the layout's own."""
    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Frames of each clip; by default as many as 2.4 beats take."""
    frame_rate_hz: Annotated[float | None, tyro.conf.arg(metavar="HZ")] = None
    """Of all clips; by default drawn, half of them 50 Hz, the others 20 to 80 Hz."""
    colour_fraction: float = 0.0
    """Share of clips with a colour-Doppler overlay; `--truth grey` keeps their greyscale frames."""
    overlay: Annotated[bool | None, tyro.conf.arg(metavar="{True,False}")] = None
    """Burned-in text and ECG trace; by default where the layout's real set has them."""
    acquisitions: Spread = "usual"
    """How unlike the clips of one view are: as of one laboratory, or varied as of many (docs/phantom.md)."""
    truth: str = ""
    """Comma-separated, of displacement,velocity,grey,clean: dense truth to keep and to take into shards."""
    processes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Worker processes; by default one per core. The bytes do not depend on it."""
    device: str = "cpu"
    """Torch device that renders."""


def main(argv: list[str]) -> int:
    """`echofm phantom`; 0 when the folder is written."""
    arguments = tyro.cli(Arguments, prog="echofm phantom", args=argv)
    from echofm.phantom.folder import generate

    views = None if arguments.views is None else _words(arguments.views)
    options = vars(arguments) | {"views": views, "truth": _words(arguments.truth)}
    out = options.pop("out")
    try:
        generate(out, **options)
    except OSError as error:
        raise EchofmError(f"the phantom cannot be written: {error.strerror}; choose another folder") from None
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
