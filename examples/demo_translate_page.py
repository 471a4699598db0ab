"""The page of the demo of translation: strips of held-out clips, and the figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from demo_translate_clips import COLOUR, Pair, pairs_of
from demo_translate_results import RESULTS

from echofm.report.blocks import Commands, FilmStrip, Table
from echofm.report.page import Page

_CLIPS, _FRAMES = 3, 8


def build(out: Path, *, commands: Sequence[tuple[str, float]]) -> Page:
    """Of a finished demo's folder."""
    page = Page(
        "Colour Doppler to greyscale (phantom)",
        "Two networks predict what the colour hides of held-out phantoms' clips; every other pixel is as read.",
    )
    page.warn("Phantom hearts: no figure here stands beside one on patients.")
    for number, pair in enumerate(itertools.islice(pairs_of(out), _CLIPS), 1):
        page.add(f"Clip {number}, {pair.clip.view}", _strip(pair))
    figures = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    cells = [[name, _cell(value)] for name, value in figures.items()]
    page.add("Figures", Table(["figure", "found (95 %, over patients)"], cells))
    return page.add("What was run", Commands("\n".join(f"{words}  # {seconds:.0f} s" for words, seconds in commands)))


def _strip(pair: Pair) -> FilmStrip:
    parts = np.array_split(np.arange(len(pair.mask_THW)), min(_FRAMES, len(pair.mask_THW)))
    chosen = [int(part[pair.mask_THW[part].sum((1, 2)).argmax()]) for part in parts]
    rows = {"as read": pair.clip.frames_TCHW[chosen].transpose(0, 2, 3, 1)}
    rows |= {name: frames[chosen] for name, frames in pair.found.items() if name != COLOUR}
    return FilmStrip(
        rows | {"truth": pair.true_THW[chosen], "noise-free": pair.clean_THW[chosen]}, alt="Frames in rows"
    )


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return str(value)
