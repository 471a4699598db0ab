"""The page of the demo of text and label maps: grids of frames, and the figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from demo_text_figures import RESULTS, VIEWS

from echofm.report.blocks import Commands, FilmStrip, Table
from echofm.report.page import Page
from synth.condition import Condition
from synth.downstream.frames import frames_of
from synth.generator.sampling import open_generator
from synth.text.prompt import TIME_POINTS

_SHOWN = 6
_PROMPTS = (
    "apical four-chamber view, end-diastole, good image quality",
    "apical four-chamber view, end-systole, poor image quality",
    "ES, apical two-chamber view",
    "two-chamber view",
)


def build(out: Path, *, commands: Sequence[tuple[str, float]]) -> Page:
    """Of a finished demo's folder."""
    page = Page(
        "Frames by class, text and label map (phantom)",
        "Generators of single frames on phantom hearts in CAMUS' layout, and what their frames teach.",
    )
    page.warn("Phantom hearts: no figure here stands beside one on patients.")
    real = frames_of(f"{out / 'shards'}:test")
    rows = {}
    for view in VIEWS:
        for point in TIME_POINTS:
            frames = real.where((real.view_N == view) & (real.time_point_N == point))
            rows[f"{view} {point}"] = _grey(frames.image_N1HW[:_SHOWN, 0].numpy())
    page.add("Real test frames", _strip(rows))
    image, text = (open_generator(str(out / name), device="cpu") for name in ("image", "text"))
    by_class, by_text = {}, {}
    for view in VIEWS:
        for point in TIME_POINTS:
            condition = Condition.of(_SHOWN, frames=1, view=view, time_point=point)
            by_class[f"{view} {point}"] = _grey(image.sample(condition, steps=25)[:, 0, 0].numpy())
    for prompt in _PROMPTS:
        by_text[prompt] = _grey(text.sample(Condition.of(_SHOWN, frames=1, text=prompt), steps=25)[:, 0, 0].numpy())
    page.add("By class", _strip(by_class)).add("By text", _strip(by_text))
    for name, title in (("held-out", "held-out patients' maps"), ("drawn", "maps of the shape model")):
        made = frames_of(f"{out / f'{name}-shards'}:train")
        shown = {"frames": _grey(made.image_N1HW[: 2 * _SHOWN, 0].numpy())}
        shown["maps"] = (85 * made.mask_NHW[: 2 * _SHOWN]).byte().numpy()
        page.add(f"On {title}", _strip(shown))
    figures = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    cells = [[name, _cell(value)] for name, value in figures.items()]
    page.add("Figures", Table(["figure", "found (95 %, over patients)"], cells))
    page.add("Learnt from real and synthetic frames", Commands("segmentation/index.html\nphase/index.html"))
    return page.add("What was run", Commands("\n".join(f"{words}  # {seconds:.0f} s" for words, seconds in commands)))


def _strip(rows: dict[str, np.ndarray]) -> FilmStrip:
    most = min(map(len, rows.values()))
    return FilmStrip({name: frames[:most] for name, frames in rows.items()}, alt="Frames in rows")


def _grey(frames_NHW: np.ndarray) -> np.ndarray:
    return (255 * frames_NHW).round().astype(np.uint8)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
