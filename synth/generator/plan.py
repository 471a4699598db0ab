"""What each clip of a set is asked for: a function of the set's settings and the clip's number.

Shapes: B clips, T frames, C, H, W of latents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from echofm.augment import fit_to
from echofm.clip import ClipBatch
from echofm.draws import Stream, integers, uniform
from echofm.embed.inputs import ShardInput
from echofm.errors import EchofmError
from echofm.shards.carry import held_by
from echofm.shards.loader import window_batches
from echofm.shards.read import ShardSet
from synth.condition import Condition, joined
from synth.conditioner import RATES
from synth.generator.model import Generator, draw_of
from synth.generator.motions import Motions


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a set is asked for.

    ef: "uniform" over the training clips' range, "train": as they are spread, numbers taken in turn, or None: unknown.
    view, time_point: None: unknown. text: prompts taken in turn. frames: None: as trained. reference: shards and split
        whose clips' first frames are kept. motion: where it comes from; None: unknown.
    """

    ef: str | Sequence[float] | None = None
    view: str | None = None
    time_point: str | None = None
    text: Sequence[str] = ()
    frames: int | None = None
    reference: str | None = None
    motion: Motions | None = None
    seed: int = 0


class Plan:
    """The condition of any clips of a set. Raises EchofmError where the generator cannot be asked so."""

    def __init__(self, generator: Generator, asked: Asked) -> None:
        self._generator, self.asked = generator, asked
        self.frames = asked.frames or generator.contract.frames
        self._taken = generator.denoiser.conditioner.taken
        self._references = None if asked.reference is None else _References(generator, asked.reference)
        if isinstance(asked.ef, str) and "ef_percent" not in generator.config.spread:
            raise EchofmError("the generator knows no ejection fractions; leave --ef out")
        if asked.motion is not None and self.frames != generator.contract.frames:
            raise EchofmError("--motion is of clips as long as the generator was trained for: leave --length out")
        # Refused before work.
        generator.check(self.condition([0]), 1, self.frames)

    def draw_B(self, numbers: Sequence[int]) -> torch.Tensor:
        """Seeds of these clips."""
        return torch.cat([draw_of(self.asked.seed, range(number, number + 1)) for number in numbers])

    def source(self, number: int) -> str | None:
        """Id of the clip whose first frame is kept."""
        return None if self._references is None else self._references.ids[number % len(self._references.ids)]

    @property
    def references(self) -> str | None:
        """Fingerprint of the shards whose first frames are kept."""
        return None if self._references is None else self._references.fingerprint

    @property
    def motion(self) -> str | None:
        """Fingerprint of where the motion comes from."""
        return None if self.asked.motion is None else self.asked.motion.fingerprint

    def condition(self, numbers: Sequence[int]) -> Condition:
        """Of these clips."""
        return joined([self._of(number) for number in numbers])

    def about(self, number: int) -> dict[str, Any]:
        """What a clip is asked for, itself or through its motion, and the clips that it is of; JSON-like."""
        motion = self.asked.motion
        through = {} if motion is None else self._shared(number).only(motion.taken).held()
        held = {**through, **self._of(number).held()}
        sources = {"reference_clip": self.source(number), "motion_clip": motion and motion.source(number)}
        return {
            "condition": {name: _plain(value) for name, value in held.items() if name not in _LARGE},
            **{name: each for name, each in sources.items() if each},
        }

    def _of(self, number: int) -> Condition:
        motion, whole = self.asked.motion, self._shared(number)
        if motion is None:
            return whole
        # Other draws than the clip's own noise.
        draw_B = integers(self.draw_B([number]), high=2**62, stream=Stream.INTERVAL)
        moved = {"motion_BND": motion.motion_BND(number, whole.only(motion.taken), draw_B)}
        # What neither takes stays, to be refused.
        own = self._taken | (set(whole.held()) - motion.taken - set(RATES))
        return Condition(**{**whole.only(own).held(), **moved})

    def _shared(self, number: int) -> Condition:
        """What is asked but for the motion."""
        asked, rate_hz = self.asked, self._generator.contract.frame_rate_hz
        chance_3 = self._chance_3(number)
        fields: dict[str, Any] = {"ef_percent": self.ef_percent(number), "view": asked.view}
        fields |= {"time_point": asked.time_point, "text": asked.text[number % len(asked.text)] if asked.text else None}
        taken = self._taken | (frozenset() if asked.motion is None else asked.motion.taken)
        reference = None if self._references is None else self._references.condition(number, self.frames, taken)
        tensors = {} if reference is None else reference.held()
        if "phase_BT" in taken and "phase_BT" not in tensors and rate_hz is not None:
            rate = self._spread("heart_rate_bpm", chance_3[1]) or 70.0
            fields |= {"heart_rate_bpm": rate, "first_phase": chance_3[2], "frame_rate_hz": rate_hz}
        made = Condition.of(1, frames=self.frames, **{key: each for key, each in fields.items() if each is not None})
        return Condition(**{**made.held(), **tensors})

    def _chance_3(self, number: int) -> list[float]:
        """Of ejection fraction, heart rate and first phase."""
        return uniform(self.draw_B([number]), 3, stream=Stream.CONDITION)[0].tolist()

    def ef_percent(self, number: int) -> float | None:
        """What a clip is asked for; None: nothing."""
        ef = self.asked.ef
        if ef is None or not isinstance(ef, str):
            return None if ef is None else float(ef[number % len(ef)])
        known, chance = self._generator.config.spread["ef_percent"], self._chance_3(number)[0]
        return known[0] + chance * (known[-1] - known[0]) if ef == "uniform" else self._spread("ef_percent", chance)

    def _spread(self, label: str, chance: float) -> float | None:
        known = self._generator.config.spread.get(label)
        return None if known is None else float(np.interp(chance, np.linspace(0, 1, len(known)), known))


_LARGE = ("reference_BCTHW", "observed_BT", "embedding_BND", "motion_BND", "label_map_BTHW")


def _plain(value: Any) -> Any:
    values = value[0].tolist() if hasattr(value, "tolist") else value[0]
    return [round(each, 4) for each in values] if isinstance(values, list) else values


class _References:
    """First frames of a split's clips, as latents, with what their shards say of the beat."""

    def __init__(self, generator: Generator, spec: str) -> None:
        folder, _, split = spec.rpartition(":")
        if not folder or "reference_BCTHW" not in generator.denoiser.conditioner.taken:
            raise EchofmError("--reference is SHARDS:SPLIT, for a generator trained with the condition `reference`")
        shards = ShardSet.open(folder)
        self.fingerprint = f"{ShardInput(shards, contract=generator.contract).fingerprint()} {split}"
        self._generator, self._shards = generator, shards.split(split)
        if not len(self._shards):
            raise EchofmError(f"--reference: the split {split!r} has no clip")
        self.ids = [record.meta.clip_id for record in self._shards.records]

    @torch.no_grad()
    def condition(self, number: int, frames: int, taken: Collection[str]) -> Condition:
        """Of one clip of the set, with its phases where they are taken."""
        batch, generator = self._batch(number % len(self.ids)), self._generator
        first = generator.codec.encode(batch.video_BCTHW[:, :, :1].to(generator.device)).cpu()
        observed_BT = torch.arange(frames)[None] == 0
        held: dict[str, Any] = {"reference_BCTHW": first.expand(-1, -1, frames, -1, -1), "observed_BT": observed_BT}
        phase_BT = batch.phase_BT
        if "phase_BT" in taken and phase_BT is not None and phase_BT.isfinite().all() and phase_BT.shape[1] > 1:
            turn = ((phase_BT[:, 1:] - phase_BT[:, :-1]) % 1).mean(1, keepdim=True)
            held["phase_BT"] = ((phase_BT[:, :1] + torch.arange(frames) * turn) % 1).float()
        return Condition(**held)

    def _batch(self, index: int) -> ClipBatch:
        contract = self._generator.contract
        one = replace(self._shards, records=self._shards.records[index : index + 1])
        windows = window_batches(
            one,
            frames=contract.frames,
            frame_rate_hz=contract.frame_rate_hz,
            batch=1,
            carry=held_by(one, ["phase"]),
        )
        return fit_to(next(windows).to("cpu"), contract)
