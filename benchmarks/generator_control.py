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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from echofm.hub import load_encoder
from echofm.intervals import Estimate
from echofm.shards.read import ShardSet
from synth.generator.plan import Asked, Plan
from synth.generator.sampling import open_generator
from synth.measure.ejection import agreement, chance, sampled
from synth.measure.heart import HeartReader, ef_percent_of, numbers_of, windows_of


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


def main(options: Options) -> dict[str, Any]:
    """Measure and write; returns what is written."""
    shards, generator = ShardSet.open(options.shards), open_generator(options.run)
    reader = HeartReader.fit(load_encoder(options.encoder), shards, generator.contract, clips=options.fitted)
    batch = windows_of(shards, options.split, generator.contract, clips=options.clips)
    chosen, own = numbers_of(shards, options.split, clips=options.clips), ef_percent_of(batch)
    real = agreement(own, reader.ef_percent_B(batch.video_BCTHW))
    results: dict[str, Any] = {"clips": len(chosen), "real held-out clips": plain(real)}
    plan = Plan(generator, Asked(ef="uniform", reference=f"{options.shards}:{options.split}"))
    runs = [(options.steps[0], guidance) for guidance in options.guidances]
    runs += [(steps, options.guidances[0]) for steps in options.steps[1:]]
    for steps, guidance in runs:
        found = sampled(generator, plan, chosen, reader, steps=steps, guidance=guidance)
        asked = agreement(found.asked_N, found.shown_N)
        results[f"{steps} steps, guidance {guidance:g}"] = {
            "asked": plain(asked),
            "shuffled": plain(chance(found.asked_N, found.shown_N)),
            "the reference's own": plain(agreement(own, found.shown_N)),
        }
        print(steps, guidance, {key: round(each.value, 3) for key, each in asked.items()}, flush=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def plain(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """As JSON has them."""
    return {name: each.model_dump() for name, each in estimates.items()}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
