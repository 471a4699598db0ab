"""What synthetic frames teach: segmentation, phase or view from real, synthetic and both, tested on real patients.

Exit codes: 0 done, 2 bad input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from echofm.errors import EchofmError
from synth.downstream.settings import DownstreamSettings, Task


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Learn a task from real patients' frames, from synthetic ones and from both; test on patients whom nobody saw.

    echofm synth downstream segmentation --real shards:train --synthetic made:train --test shards:test --out found

    Frames are each clip's end-diastole and end-systole, by its masks. Writes results.json and index.html.
    """

    task: Annotated[Task, tyro.conf.Positional]
    """Masks; ED or ES; the view."""
    real: Annotated[str, tyro.conf.arg(metavar="SHARDS:SPLIT")]
    """Real training patients; the generator's, or fewer."""
    synthetic: Annotated[str, tyro.conf.arg(metavar="SHARDS:SPLIT")]
    """Shards of a set of `echofm synth sample --maps`."""
    test: Annotated[str, tyro.conf.arg(metavar="SHARDS:SPLIT")]
    """Real patients of whom nothing was trained or chosen, by the generator neither."""
    out: Path
    """Folder for the page and the figures."""
    seed: int = 0
    """Of the first training; the others follow."""
    settings: tyro.conf.OmitArgPrefixes[DownstreamSettings] = field(default_factory=DownstreamSettings)


def main(argv: list[str]) -> int:
    """Parse the command and run it."""
    given = tyro.cli(Arguments, args=argv, prog="echofm synth downstream", description=Arguments.__doc__)
    given.settings.check()
    # Only now, so that --help needs no torch.
    from echofm.atomic import write_whole
    from synth.downstream.frames import frames_of, require_apart
    from synth.downstream.page import page, shown
    from synth.downstream.run import Sets, downstream

    if given.out.exists() and any(given.out.iterdir()):
        raise EchofmError(f"{given.out} is not empty; name another folder")
    parts = {name: frames_of(getattr(given, name)) for name in ("real", "synthetic", "test")}
    require_apart([(f"--{name}", frames) for name, frames in parts.items()])
    found = downstream(given.task, Sets(**parts), given.settings, seed=given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    write_whole(given.out / "results.json", found.to_json())
    page(found, simulated=parts["test"].simulated).save(given.out / "index.html")
    for each in (*found.results, *found.control):
        print(f"{each.arm:40} {each.figure:36} {shown(each.found)}")
    return 0
