"""The page of a set: clips that play, under what they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from echofm.readers.limits import Limits
from echofm.readers.video import decode_video
from echofm.report.blocks import Cines, FilmStrip, Table
from echofm.report.page import Page

if TYPE_CHECKING:
    from synth.generator.camus_set import CamusSet
    from synth.generator.sample_set import SyntheticSet


def contact_sheet(made: SyntheticSet, numbers: Sequence[int], *, total: int) -> Page:
    """Of these clips of a set of so many."""
    clips = {_title(made.provenance(number)): _frames(made.path(number)) for number in numbers}
    cines = Cines(
        clips=clips,
        frame_rate_hz=made.frame_rate_hz,
        alt=f"{len(clips)} synthetic clips that play",
        caption="What each was asked for stands under it; what it shows is measured elsewhere.",
    )
    rows = [[name, str(value)] for name, value in made.settings.items()]
    page = Page("Synthetic clips", f"{total} clips made by a generator; the first {len(clips)} play here.")
    return page.add("Clips", cines).add("How they were made", Table(columns=["setting", "value"], rows=rows))


def map_sheet(made: CamusSet, numbers: Sequence[int], *, total: int) -> Page:
    """Of these hearts of a set drawn on label maps: each frame beside the map that it was asked for."""
    rows = {f"{number} {made.provenance(number)['prompts'][0]}": made.beside_maps(number) for number in numbers}
    strip = FilmStrip(
        rows,
        alt=f"{len(rows)} synthetic hearts and their maps",
        columns=("end-diastole", "map", "end-systole", "map"),
        caption="Whether a frame shows its map is measured elsewhere.",
    )
    settings = [[name, str(value)] for name, value in made.settings.items()]
    page = Page("Synthetic frames on label maps", f"{total} hearts in one view each; the first {len(rows)} are here.")
    return page.add("Frames", strip).add("How they were made", Table(columns=["setting", "value"], rows=settings))


def _title(provenance: dict[str, Any]) -> str:
    condition = provenance["condition"]
    parts = [f"`{provenance['number']}`"]
    if (ef := condition.get("ef_percent_B")) is not None:
        parts.append(f"EF {ef:.0f} %")
    parts += [condition[name] for name in ("views", "time_points", "texts") if condition.get(name)]
    return " ".join(parts)


def _frames(path: Path) -> npt.NDArray[np.uint8]:
    with path.open("rb") as source:
        return decode_video(source, container="avi", channels=1, limits=Limits()).frames_TCHW[:, 0]
