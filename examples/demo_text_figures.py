"""What the demo of text and label maps measures, by networks learnt from real training patients' frames.

N frames, H rows, W columns.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echofm.atomic import write_whole
from echofm.intervals import Estimate, patient_bootstrap
from synth.condition import Condition
from synth.downstream.frames import Frames, frames_of
from synth.downstream.learner import Learner, overlap_N
from synth.downstream.run import STRUCTURES
from synth.downstream.settings import DownstreamSettings, Task
from synth.generator.model import Generator
from synth.generator.sampling import open_generator
from synth.text.grammar import phrases_of
from synth.text.prompt import TIME_POINTS

RESULTS, VIEWS, EACH = "results.json", ("A2C", "A4C"), 16


@dataclass(frozen=True)
class Measured:
    """Figures by name; each an estimate with its interval, or a number."""

    figures: dict[str, Any]

    def save(self, path: Path) -> None:
        """As JSON."""
        shown = {name: each.model_dump() if isinstance(each, Estimate) else each for name, each in self.figures.items()}
        write_whole(path, json.dumps({"patients": "phantom", **shown}, indent=1) + "\n")


def measured(out: Path, *, seed: int, steps: int) -> Measured:
    """Of a finished demo's folder."""
    real, test = (frames_of(f"{out / 'shards'}:{split}") for split in ("train", "test"))
    settings = DownstreamSettings(steps=steps, seeds=1)
    figures: dict[str, Any] = {}
    learner = Learner("segmentation", size=64)
    net = learner.fit([real], settings, seed=seed)
    for name, frames in (
        ("real test frames (ceiling)", test),
        *((name, frames_of(f"{out / f'{name}-shards'}:train")) for name in ("set", "held-out", "drawn")),
    ):
        figures |= _overlap(name, frames, learner.predict(net, frames))
    for name in ("image", "text"):
        generator = open_generator(str(out / name), device="cpu")
        for task, classes in (("phase", TIME_POINTS), ("view", VIEWS)):
            judge = Learner(task, size=64, classes=classes)
            figures |= _followed(name, generator, judge, judge.fit([real], settings, seed=seed), task=task)
    return Measured(figures | _paraphrases(open_generator(str(out / "text"), device="cpu")))


def _overlap(name: str, frames: Frames, found_NHW: torch.Tensor) -> dict[str, Estimate]:
    """Dice of what was asked, and of what another heart of the same view and time point was asked."""
    figures = {}
    kinds = np.char.add(frames.view_N, frames.time_point_N)
    order = np.arange(len(frames))
    for kind in np.unique(kinds):
        order[kinds == kind] = np.roll(np.flatnonzero(kinds == kind), 1)
    for structure, number in STRUCTURES.items():
        for asked, mask_NHW in (("", frames.mask_NHW), (", wrong map", frames.mask_NHW[order])):
            figures[f"{name}: Dice, {structure}{asked}"] = _mean(
                overlap_N(mask_NHW, found_NHW, number), frames.patient_N
            )
    return figures


def _followed(name: str, generator: Generator, judge: Learner, net: torch.nn.Module, *, task: Task) -> dict[str, Any]:
    """Share of frames that show the class asked for, and the same by requests in another order."""
    asked = [each for each in itertools.product(VIEWS, TIME_POINTS) for _ in range(EACH)]
    texts = [", ".join(phrases_of("view", view)[:1] + phrases_of("time point", point)[:1]) for view, point in asked]
    if name == "text":
        condition = Condition.of(len(asked), frames=1, text=texts)
    else:
        views, points = zip(*asked)
        condition = Condition.of(len(asked), frames=1, view=views, time_point=points)
    found_N = judge.predict(net, as_frames(generator.sample(condition, steps=25, seed=1))).numpy()
    wanted_N = np.array([judge.classes.index(point if task == "phase" else view) for view, point in asked])
    # Every frame is a heart of its own.
    hearts_N = np.arange(len(asked)).astype(str)
    shuffled_N = np.random.default_rng(0).permutation(wanted_N)
    return {
        f"{name}: {task} as asked": _mean((found_N == wanted_N).astype(float), hearts_N),
        f"{name}: {task}, requests shuffled": _mean((found_N == shuffled_N).astype(float), hearts_N),
    }


def as_frames(video_BCTHW: torch.Tensor) -> Frames:
    """Generated frames, of no known truth."""
    count, nobody = len(video_BCTHW), np.full(len(video_BCTHW), "")
    mask_NHW = torch.zeros(count, *video_BCTHW.shape[3:], dtype=torch.long)
    return Frames(
        image_N1HW=video_BCTHW[:, :, 0], mask_NHW=mask_NHW, time_point_N=nobody, view_N=nobody, patient_N=nobody
    )


def _paraphrases(generator: Generator) -> dict[str, float]:
    """Mean grey difference, from the same noise, of other words for the same, in another order; and of other facts."""

    def made(texts: Sequence[str]) -> torch.Tensor:
        draw_B = torch.arange(EACH).repeat_interleave(len(texts))
        condition = Condition.of(EACH * len(texts), frames=1, text=[*texts] * EACH)
        return generator.sample(condition, steps=25, draw_B=draw_B).unflatten(0, (EACH, len(texts)))

    end_systole = "apical four-chamber view, end-systole"
    frames = made((end_systole, "ES, 4CH", "apical two-chamber view, end-systole", "A4C, end-diastole"))
    apart = [float((frames[:, 0] - frames[:, other]).abs().mean()) for other in (1, 2, 3)]
    names = ("in other words and order", "of another view", "of the other time point")
    return {f"text: grey difference {name}": value for name, value in zip(names, apart)}


def _mean(values_N: np.ndarray, patient_N: np.ndarray) -> Estimate:
    known_N = ~np.isnan(values_N)
    groups = {"values": (values_N[known_N], patient_N[known_N])}
    return patient_bootstrap(lambda values: float(values.mean()), groups)
