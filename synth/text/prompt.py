"""Prompts made from labels: which words, in which order, is drawn for each clip (echofm.draws).

Shapes: B clips, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echofm.clip import ClipBatch
from echofm.draws import Stream, hashed
from synth.text.grammar import PHRASES, Facet, Value, phrases_of

TIME_POINTS = ("ED", "ES")
# A frame that shows this part of the clip's emptying, or less, is at end-diastole; and so at the other end.
_END = 0.15
# Bands: up to this value, and the last. EF: ESC 2021; volume: ASE 2015, limits of men and women between;
# beats per minute: usual.
_BANDS: Mapping[Facet, tuple[str, tuple[tuple[float, str], ...]]] = {
    "ejection fraction": ("ef_percent", ((40, "reduced"), (49, "mildly reduced"), (100, "preserved"))),
    "size": ("edv_ml", ((60, "small"), (130, "normal"), (1e4, "dilated"))),
    "heart rate": ("heart_rate_bpm", ((60, "slow"), (100, "normal"), (1e3, "fast"))),
}
_LEFT_OUT = 0.15


def time_points(batch: ClipBatch) -> list[str | None]:
    """ED, ES or, between the two, of unknown or of several frames, None, of each clip."""
    assert batch.emptying_BT is not None
    if batch.emptying_BT.shape[1] > 1:
        return [None] * len(batch)
    ends = [(value <= _END, value >= 1 - _END) for value in batch.emptying_BT[:, 0].tolist()]
    return ["ED" if diastole else "ES" if systole else None for diastole, systole in ends]


def facets(
    labels: Mapping[str, Any], *, view: str | None, time_point: str | None = None, still: bool
) -> dict[Facet, list[Value]]:
    """What can be written of a clip, each facet's values the same thing: a band, a number.

    still: of a single frame, which holds no ejection fraction and no rate, and whose ventricle may be at any size.
    """
    found: dict[Facet, list[Value]] = {}
    if view is not None and view in PHRASES["view"]:
        found["view"] = [view]
    if time_point is not None:
        found["time point"] = [time_point]
    if labels.get("image_quality") in PHRASES["image quality"]:
        found["image quality"] = [labels["image_quality"]]
    for facet, (name, bands) in () if still else _BANDS.items():
        if isinstance(value := labels.get(name), int | float) and value == value:
            found[facet] = [next((word for most, word in bands if value <= most), bands[-1][1])]
            if facet != "size":
                found[facet].append(round(value))
    return found


def prompts(batch: ClipBatch) -> list[str | None]:
    """One for each clip of what is known of it: facets now and then left out, in any order, in any words."""
    assert batch.labels is not None and batch.views is not None
    still, points = batch.valid_BT.shape[1] == 1, time_points(batch)
    drawn_B = hashed(batch.draw_B, 4, len(PHRASES), stream=Stream.TEXT).tolist()
    return [
        _written(facets(labels, view=view, time_point=point, still=still), drawn_4F)
        for labels, view, point, drawn_4F in zip(batch.labels, batch.views, points, drawn_B)
    ]


def _written(values: Mapping[Facet, list[Value]], drawn_4F: list[list[int]]) -> str | None:
    order, kept, value_of, phrase_of = drawn_4F
    parts = []
    for number, (facet, ways) in enumerate(values.items()):
        if kept[number] >= _LEFT_OUT * 2**63:
            phrases = phrases_of(facet, ways[value_of[number] % len(ways)])
            parts.append((order[number], phrases[phrase_of[number] % len(phrases)]))
    return ", ".join(phrase for _, phrase in sorted(parts)) or None
