"""Does a generator do what it is asked? Ejection fraction and area curves, beside shuffled requests and real clips.

    python -m benchmarks.generator_control RUN --shards SHARDS --encoder E --out RESULTS.json

Each clip keeps the first frame of a held-out patient, and is asked for an ejection fraction drawn apart from it. What
it shows is read by the core's reader of the left ventricle: areas of every frame, and a line from their ratio to the
ejection fraction, both fitted on real training clips. The reader's own figures on real held-out clips are the ceiling;
the same answers against requests in 200 other orders are the control: their mean, and where 95 % of them lie. All other
intervals are over patients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from echofm.clip import Clip
from echofm.estimators.left_ventricle import LeftVentricleReader, fit_left_ventricle, traced_frames
from echofm.hub import load_encoder
from echofm.intervals import Estimate, patient_bootstrap
from echofm.progress import progress_bar
from echofm.shards.read import ShardSet
from echofm.shards.windows import Windowing, cut_windows
from synth.generator.model import Generator, draw_of
from synth.generator.plan import Asked, Plan
from synth.generator.sampler import Guidance
from synth.generator.sampling import open_generator

Floats = npt.NDArray[np.float64]
# A ventricle's end-systolic over end-diastolic area is about this power of its volumes' ratio.
_POWER = 1.5
_ORDERS = 200


@dataclass(frozen=True)
class Options:
    """What a generator does with an ejection fraction that it is asked for."""

    run: Annotated[str, tyro.conf.Positional]
    """Of `echofm synth train video-ef`."""
    shards: Path
    """Of pixels, with masks and ejection fractions; train and test (or val) are used."""
    encoder: str
    """On whose tokens the reader of the left ventricle is fitted."""
    out: Path
    """JSON."""
    clips: int = 64
    """Held-out patients, and as many real clips."""
    fitted: int = 96
    """Training clips on which the reader is fitted."""
    steps: tuple[int, ...] = (20,)
    """Sampling steps; the first one is used at every guidance."""
    guidances: tuple[float, ...] = (1.0, 2.0, 4.0)
    split: str = "test"


class Reader:
    """Clips to ejection fractions: the areas' ratio, and a line from it fitted on real training clips."""

    def __init__(self, areas: LeftVentricleReader, train: ShardSet, generator: Generator, *, clips: int) -> None:
        self._areas, self._generator = areas, generator
        ratios, labels = [], []
        for index in _spread(len(train), clips):
            ratios.append(self.ratio(window_of(train.clip(index), generator)))
            labels.append(float(train.records[index].meta.labels["ef_percent"]))
        self._slope, self._offset = np.polyfit(ratios, labels, 1)

    def curve(self, clip: Clip) -> Floats:
        """The left ventricle's area in every frame."""
        return self._areas.curve(clip).area_F

    def ratio(self, clip: Clip) -> float:
        """1 - (least over largest area)^1.5; percentiles, as a single frame may be read wrong."""
        least, largest = np.percentile(self.curve(clip), [8, 92])
        return float(1 - (least / max(largest, 1e-6)) ** _POWER)

    def __call__(self, clip: Clip) -> float:
        return float(self._slope * self.ratio(clip) + self._offset)


def window_of(clip: Clip, generator: Generator) -> Clip:
    """The middle window of a clip, as the generator's are."""
    contract = generator.contract
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    window = windowing.spread(0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=1)
    video = cut_windows(clip, window).video_BCTHW[0].transpose(0, 1)
    return as_clip(video.numpy(), generator)


def as_clip(frames_TCHW: npt.NDArray[np.uint8], generator: Generator) -> Clip:
    """A window as a clip of the generator's rate."""
    rate_hz = generator.contract.frame_rate_hz
    assert rate_hz is not None
    return Clip(
        frames_TCHW=np.ascontiguousarray(frames_TCHW),
        sector_HW=np.ones(frames_TCHW.shape[2:], bool),
        clip_id="0" * 20,
        patient_id="0" * 20,
        frame_time_s=np.arange(len(frames_TCHW)) / rate_hz,
    )


STATISTICS: dict[str, Callable[[Floats], float]] = {
    "correlation": lambda pairs: float(np.corrcoef(pairs.T)[0, 1]),
    "slope": lambda pairs: float(np.polyfit(pairs[:, 0], pairs[:, 1], 1)[0]),
    "r2": lambda pairs: float(
        1 - np.square(pairs[:, 1] - pairs[:, 0]).sum() / np.square(pairs[:, 0] - pairs[:, 0].mean()).sum()
    ),
    "mae": lambda pairs: float(np.abs(pairs[:, 1] - pairs[:, 0]).mean()),
}
"""Of (patients, 2) requests and answers."""


def agreement(asked_N: Floats, found_N: Floats) -> dict[str, Any]:
    """Correlation, slope, R2 and mean absolute error, with intervals over patients (one clip each)."""
    pairs, patients = np.stack([asked_N, found_N], 1), np.arange(len(asked_N)).astype(str)
    return {
        name: patient_bootstrap(statistic, {"pairs": (pairs, patients)}).model_dump()
        for name, statistic in STATISTICS.items()
    }


def chance(asked_N: Floats, found_N: Floats) -> dict[str, Any]:
    """The same of requests in other orders: the mean of 200, and the range that holds 95 % of them."""
    rng = np.random.default_rng(0)
    orders = [np.stack([rng.permutation(asked_N), found_N], 1) for _ in range(_ORDERS)]
    results = {}
    for name, statistic in STATISTICS.items():
        values = np.array([statistic(pairs) for pairs in orders])
        low, high = np.percentile(values, [2.5, 97.5])
        results[name] = Estimate(value=float(values.mean()), low=low, high=high).model_dump()
    return results


def main(options: Options) -> dict[str, Any]:
    """Measure and write; returns what is written."""
    shards, encoder = ShardSet.open(options.shards), load_encoder(options.encoder)
    generator = open_generator(options.run)
    areas = fit_left_ventricle(
        encoder,
        traced_frames(encoder, shards, split="train", clips=options.fitted, frames_per_clip=4),
        traced_frames(encoder, shards, split="val", clips=32, frames_per_clip=4),
    )
    reader = Reader(areas, shards.split("train"), generator, clips=options.fitted)
    held_out = shards.split(options.split)
    chosen = _spread(len(held_out), options.clips)
    real = [reader(window_of(held_out.clip(index), generator)) for index in chosen]
    own = np.array([float(held_out.records[index].meta.labels["ef_percent"]) for index in chosen])
    results: dict[str, Any] = {"clips": len(chosen), "real held-out clips": agreement(own, np.array(real))}
    asked = Asked(ef="uniform", reference=f"{options.shards}:{options.split}")
    runs = [(options.steps[0], guidance) for guidance in options.guidances]
    runs += [(steps, options.guidances[0]) for steps in options.steps[1:]]
    for steps, guidance in runs:
        wanted, found = requested(generator, reader, asked, chosen, steps=steps, guidance=guidance)
        found_asked = agreement(wanted, found)
        results[f"{steps} steps, guidance {guidance:g}"] = {
            "asked": found_asked,
            "shuffled": chance(wanted, found),
            "the reference's own": agreement(own, found),
        }
        print(steps, guidance, {key: round(each["value"], 3) for key, each in found_asked.items()}, flush=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def requested(
    generator: Generator, reader: Reader, asked: Asked, numbers: Sequence[int], *, steps: int, guidance: float
) -> tuple[Floats, Floats]:
    """What was asked of clips of these references, and what they show."""
    plan, wanted, found = Plan(generator, asked), [], []
    with progress_bar(f"{steps} steps, guidance {guidance:g}", len(numbers)) as bar:
        for number in numbers:
            condition = plan.condition([number])
            assert condition.ef_percent_B is not None
            video = generator.sample(
                condition,
                frames=plan.frames,
                steps=steps,
                guidance=Guidance(scale=guidance),
                draw_B=draw_of(asked.seed, range(number, number + 1)),
            )
            wanted.append(float(condition.ef_percent_B[0]))
            frames = (255 * video[0].transpose(0, 1)).round().byte().numpy()
            found.append(reader(as_clip(frames, generator)))
            bar.advance()
    return np.array(wanted), np.array(found)


def _spread(count: int, wanted: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, wanted).round().astype(int)).tolist()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
