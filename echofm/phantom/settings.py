"""What a phantom's folder is to be: the options of `echofm phantom` and of `echofm.phantom.generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from echofm.phantom import LayoutName
from echofm.phantom.acquisition import Spread
from echofm.phantom.truth import Truth

# One word with commas on the command line, a sequence in Python.
_List = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="LIST",
    instance_from_str=lambda words: tuple(part.strip() for part in words[0].split(",") if part.strip()),
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda value: [",".join(value or ())],
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the folder's bytes depend on."""

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
    overlay: Annotated[bool | None, tyro.conf.arg(metavar="{True,False}")] = None
    """Burned-in text and ECG trace; by default where the layout's real set has them."""
    acquisitions: Spread = "usual"
    """How unlike the clips of one view are: as of one laboratory, or varied as of many (docs/phantom.md)."""
    truth: Annotated[Sequence[Truth], _List] = ()
    """Of displacement,velocity,grey,clean: dense truth to keep, about 1 MB a clip each, and to take into shards."""
    patients: int = 200
    """Number of patients."""
    clips_per_patient: int = 2
    """Clips of each, with one anatomy and different acquisitions."""
    views: Annotated[Sequence[str] | None, _List] = None
    """Of A4C,A2C,PLAX,PSAX, taken in turn; by default those of the layout's real set."""
    colour_fraction: float = 0.0
    """Share of clips with a colour-Doppler overlay; `--truth grey` keeps their greyscale frames."""
