"""What the demo's codec and generators do on held-out phantom patients, each figure beside its baseline and control."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch

from echofm.atomic import write_whole
from echofm.clip import ClipBatch
from echofm.hub import load_encoder
from echofm.shards.read import ShardSet
from synth.audit.result import AuditResult
from synth.condition import Condition
from synth.generator.config import DataConfig
from synth.generator.frozen import Seen
from synth.generator.model import Generator
from synth.generator.plan import Asked, Plan
from synth.generator.sampling import open_generator
from synth.mafe.extract import MotionEncoder, load_mafe
from synth.measure.ejection import Shown, agreement, chance, sampled
from synth.measure.heart import HeartReader, ef_percent_of, numbers_of, windows_of
from synth.measure.motion import followed, moved
from synth.measure.reconstruction import reconstructions
from synth.measure.speed import fidelity, times_faster

RESULTS = "results.json"
_SPLIT, _GUIDANCES = "test", (1.0, 2.0, 4.0)


class Measured:
    """Everything that is measured on, opened once."""

    def __init__(self, out: Path, *, clips: int, steps: int) -> None:
        self.out, self.clips, self.steps = out, clips, steps
        self.shards = ShardSet.open(out / "shards", show_progress=False)
        self.ef = open_generator(str(out / "ef"), device="cpu")
        encoder = load_encoder(out / "encoder" / "export")
        self.reader = HeartReader.fit(encoder, self.shards, self.ef.contract)
        self.batch = self.windows(_SPLIT)
        self.plan = Plan(self.ef, Asked(ef="uniform", reference=f"{out / 'shards'}:{_SPLIT}"))
        self.numbers = numbers_of(self.shards, _SPLIT, clips=clips)

    def windows(self, split: str) -> ClipBatch:
        """Of a split's clips."""
        return windows_of(self.shards, split, self.ef.contract, clips=self.clips)

    def shown(self, generator: Generator, *, steps: int, guidance: float = 1.0) -> Shown:
        """The same requests of any generator."""
        plan = self.plan if generator is self.ef else Plan(generator, self.plan.asked)
        return sampled(generator, plan, self.numbers, self.reader, steps=steps, guidance=guidance)


def measure(out: Path, *, clips: int, steps: int) -> None:
    """Write results.json: the figures, each {"value", "low", "high"}, intervals of 95 % over patients."""
    on = Measured(out, clips=clips, steps=steps)
    motion, network = open_generator(str(out / "motion"), device="cpu"), _motion_network(out, on.ef)
    many = on.shown(on.ef, steps=steps)
    results = {
        "of": f"phantom: {len(on.batch)} held-out patients, one clip each; says nothing about patients",
        "codec": reconstructions(on.ef.codec, on.reader, on.batch),
        "ejection fraction": _ejection(on, many),
        "motion": _motion(on, motion, network, steps=steps),
        "one step": _one_step(on, many),
        "set": _set(out),
    }
    write_whole(out / RESULTS, json.dumps(pydantic.TypeAdapter(Any).dump_python(results), indent=1) + "\n")


def _set(out: Path) -> dict[str, Any]:
    """What filter and audit found."""
    lines = (out / "set" / "provenance.jsonl").read_text(encoding="utf-8").splitlines()
    audit = AuditResult.from_json(out / "audit" / "audit.json")
    tried = 1 + max(json.loads(line)["number"] for line in lines)
    return {
        "clips": len(lines),
        "taken out by the filter": tried - len(lines),
        "verdict": audit.verdict.splitlines(),
        "audit": {
            "closer to training than new patients": audit.flagged.fraction,
            "membership AUC": audit.attacks.membership_auc,
        },
    }


def _ejection(on: Measured, unguided: Shown) -> dict[str, Any]:
    own_N = ef_percent_of(on.batch)
    found: dict[str, Any] = {"real held-out clips": agreement(own_N, on.reader.ef_percent_B(on.batch.video_BCTHW))}
    for guidance in _GUIDANCES:
        one = unguided if guidance == 1 else on.shown(on.ef, steps=on.steps, guidance=guidance)
        found[f"guidance {guidance:g}"] = {
            "asked": agreement(one.asked_N, one.shown_N),
            "shuffled": chance(one.asked_N, one.shown_N),
            "the reference's own": agreement(own_N, one.shown_N),
        }
    return found


def _motion(on: Measured, generator: Generator, network: Seen, *, steps: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, another in (("own motion", False), ("another patient's motion", True)):
        made = moved(generator, network, on.reader, on.batch, another=another, steps=steps)
        found[name] = followed(made.given_BT, made.shown_BT)
    return found


def _one_step(on: Measured, many: Shown) -> dict[str, Any]:
    """A generator of mean velocity with one step beside the flow with many, and the flow with one."""
    one_step = open_generator(str(on.out / "onestep"), device="cpu")
    sets = {
        f"flow, {on.steps} steps": many,
        "mean velocity, 1 step": on.shown(one_step, steps=1),
        "flow, 1 step": on.shown(on.ef, steps=1),
    }
    features = {name: on.reader.features_BD(each.video_BCTHW) for name, each in sets.items()}
    real = (on.reader.features_BD(batch.video_BCTHW) for batch in (on.batch, on.windows("train")))
    return {
        "times faster": {
            "in all": times_faster(_sampler(one_step, 1), _sampler(on.ef, on.steps)),
            "without the decoder": times_faster(_denoiser(one_step, 1), _denoiser(on.ef, on.steps)),
        },
        "kernel distance to held-out patients": fidelity(*real, **features),
        "ejection fraction": {
            name: {"asked": agreement(each.asked_N, each.shown_N), "shuffled": chance(each.asked_N, each.shown_N)}
            for name, each in sets.items()
        },
        "area with phase": {name: _beat(on, each) for name, each in sets.items()},
    }


def _beat(on: Measured, shown: Shown) -> dict[str, Any]:
    """Of the left ventricle's area with cos(2 pi phase), largest at end-diastole."""
    phase_BT = on.plan.condition(on.numbers).phase_BT
    assert phase_BT is not None
    return followed(np.cos(2 * np.pi * phase_BT.numpy()), on.reader.areas_BT(shown.video_BCTHW))


def _sampler(generator: Generator, steps: int) -> Callable[[int], object]:
    return lambda seed: generator.sample(clips=1, steps=steps, seed=seed)


def _denoiser(generator: Generator, steps: int) -> Callable[[int], object]:
    shape = generator.codec.latent_shape(generator.contract.frames)
    condition = generator.denoiser.conditioner(generator.check(Condition(), 1, shape[1]), shape[1])
    predict = generator.denoiser.predictor(condition)

    @torch.no_grad()
    def work(seed: int) -> object:
        noisy, one = torch.randn(1, *shape), torch.ones(1)
        return [predict(noisy, one, one) for _ in range(steps)]

    return work


def _motion_network(out: Path, generator: Generator) -> Seen:
    contract = generator.contract
    data = DataConfig(frames=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    return Seen(MotionEncoder(load_mafe(out / "mafe")), data, name="--motion")
