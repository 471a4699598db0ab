"""The clips that a probe is furthest off with: what they look like, or at least which they are."""

from __future__ import annotations

from echofm.report.blocks import Block, FilmStrip, Table
from probe.figures.canvas import in_words
from probe.findings.worst import WorstClips
from probe.report.frames import FramesOf, evenly, read_ahead

_FRAMES = 8


def worst(found: WorstClips, *, target: str, frames_of: FramesOf | None) -> list[Block]:
    """The table, and below it film strips of those clips that `frames_of` has."""
    table = Table(
        columns=("clip (hashed)", "patient (hashed)", f"true {in_words(target)}", "predicted", found.ranked_by),
        rows=[(each.clip_id, each.patient_id, each.true, each.said, each.error) for each in found.clips],
        caption="The test clips furthest off, the worst first.",
    )
    if frames_of is None:
        return [table]
    read_ahead(frames_of, [each.clip_id for each in found.clips])
    strips = {}
    for number, each in enumerate(found.clips, 1):
        frames = frames_of(each.clip_id)
        if frames is not None:
            strips[f"{number}. {each.true}, said {each.said}"] = evenly(frames, _FRAMES)
    if not strips:
        return [table]
    strip = FilmStrip(
        rows=strips,
        alt="frames of the test clips furthest off",
        caption=f"The same clips in the same order, {_FRAMES} frames from the first to the last: what is true, and "
        "what the probe said.",
    )
    return [table, strip]
