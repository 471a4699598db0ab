"""results.json of the demo of translation: every figure with its interval over patients."""

from __future__ import annotations

import json
from pathlib import Path

from demo_translate_clips import pairs_of
from demo_translate_figures import flicker_figures, pixel_figures, texture_figures
from demo_translate_readers import reader_figures

from echofm.atomic import write_whole
from echofm.intervals import Estimate

RESULTS = "results.json"


def measured(out: Path, *, reader_steps: int) -> dict[str, Estimate]:
    """Of a finished demo's folder."""
    pairs = list(pairs_of(out))
    figures = pixel_figures(pairs) | texture_figures(pairs) | flicker_figures(pairs)
    return figures | reader_figures(out, pairs, steps=reader_steps)


def save(figures: dict[str, Estimate], path: Path) -> None:
    """As JSON."""
    shown = {name: each.model_dump(mode="json") for name, each in figures.items()}
    write_whole(path, json.dumps({"patients": "phantom", **shown}, indent=1) + "\n")
