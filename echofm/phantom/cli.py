"""Make a folder of phantom echo clips with known answers, in the layout of a public set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError
from echofm.phantom.settings import Settings


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """New or empty folder, or one that a killed run with the same options left behind: its whole clips are kept."""
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    processes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Worker processes; by default one per core. The bytes do not depend on it."""
    device: str = "cpu"
    """Torch device that renders."""


def main(argv: list[str]) -> int:
    """`echofm phantom`; 0 when the folder is written."""
    asked = tyro.cli(_Arguments, prog="echofm phantom", args=argv, description=__doc__)
    from echofm.phantom.folder import generate

    try:
        generate(asked.out, processes=asked.processes, device=asked.device, **vars(asked.settings))
    except OSError as error:
        raise EchofmError(f"the phantom cannot be written: {error.strerror}; choose another folder") from None
    return 0
