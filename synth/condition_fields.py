"""The fields of a Condition, each one class: what it takes from shards, its way into a network, its learned null.

A vector of each frame scales and shifts the layers (AdaLN), tokens are attended to, channels lie beside the latents.
D is the network's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from echofm.clip import LEFT_ATRIUM, NOT_ANNOTATED, ClipBatch
from echofm.draws import Stream, integers
from echofm.errors import EchofmError
from echofm.shards.carry import Carry
from synth.condition import Condition
from synth.condition_field import Field, Sizes
from synth.condition_sequences import Embedding, Motion
from synth.text.field import Text
from synth.text.prompt import TIME_POINTS, time_points

_BEAT_WAVES = 3


class _Waves(nn.Module):
    """Sines and cosines of a number, then a learned map; a learned null where it is NaN."""

    def __init__(self, width: int, *, scale: float, waves: int, periodic: bool = False) -> None:
        super().__init__()
        cycles = range(1, waves + 1) if periodic else [2 ** (wave - 1) for wave in range(waves)]
        self.frequencies = [2 * math.pi * each / scale for each in cycles]
        self.map = nn.Linear(2 * waves, width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        angle = _angles(value, self.frequencies)
        found = self.map(torch.cat([angle.sin(), angle.cos()], -1).float())
        return torch.where(value.isnan()[..., None], self.null, found)


def _angles(value: torch.Tensor, frequencies: Sequence[float]) -> torch.Tensor:
    """(..., N); 0 where it is NaN."""
    return value.nan_to_num()[..., None] * value.new_tensor(frequencies)


class _Number(Field):
    """A number of the clip."""

    scale: ClassVar[float]

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.waves = _Waves(sizes.width, scale=self.scale, waves=5)

    def forward(self, condition: Condition) -> torch.Tensor:
        return self.waves(getattr(condition, self.field))[:, None]


class EjectionFraction(_Number):
    """ef: as a number, and times waves of each frame's phase, where that is known: how much smaller the ventricle is
    at a phase is about proportional to it."""

    field, carry, scale = "ef_percent_B", ("labels",), 100

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.beat = nn.Parameter(torch.zeros(2 * _BEAT_WAVES, sizes.width))

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"ef_percent_B": _labels(batch, "ef_percent")}

    def forward(self, condition: Condition) -> torch.Tensor:
        ef_B, phase_BT = condition.ef_percent_B, condition.phase_BT
        assert ef_B is not None
        phase_BT = torch.full_like(ef_B[:, None], math.nan) if phase_BT is None else phase_BT
        angle = _angles(phase_BT, [2 * math.pi * (wave + 1) for wave in range(_BEAT_WAVES)])
        waves_BTN = torch.cat([angle.sin(), angle.cos()], -1) * (ef_B.nan_to_num()[:, None, None] / 50 - 1)
        known_BT1 = (phase_BT.isfinite() & ef_B.isfinite()[:, None])[..., None]
        return super().forward(condition) + known_BT1 * (waves_BTN.float() @ self.beat)


class HeartRate(_Number):
    """heart-rate."""

    field, carry, scale = "heart_rate_bpm_B", ("labels",), 200

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"heart_rate_bpm_B": _labels(batch, "heart_rate_bpm")}


class FrameRate(_Number):
    """frame-rate: for generators of consecutive frames, whose rates differ."""

    field, scale = "frame_rate_hz_B", 100

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        time_s_BT = batch.frame_time_s_BT
        return {"frame_rate_hz_B": ((time_s_BT.shape[1] - 1) / (time_s_BT[:, -1] - time_s_BT[:, 0])).float()}


class Phase(Field):
    """phase: of every frame, so that the network knows when the heart is to be small."""

    field, carry = "phase_BT", ("phase",)

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.waves = _Waves(sizes.width, scale=1, waves=4, periodic=True)

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"phase_BT": batch.phase_BT}

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        return {"phase_BT": torch.full((clips, latent_shape[1]), math.nan)}

    def forward(self, condition: Condition) -> torch.Tensor:
        assert condition.phase_BT is not None
        return self.waves(condition.phase_BT)


class _Word(Field):
    """A word of a few."""

    carry: ClassVar[tuple[Carry, ...]]

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.known = self.words(sizes)
        self.table = nn.Embedding(len(self.known) + 1, sizes.width)

    @staticmethod
    def words(sizes: Sizes) -> tuple[str, ...]:
        """Those that there are."""
        raise NotImplementedError

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        return {self.field: [None] * clips}

    def forward(self, condition: Condition) -> torch.Tensor:
        words = getattr(condition, self.field)
        numbers = [0 if word is None else self.known.index(word) + 1 for word in words]
        return self.table(torch.tensor(numbers, device=self.table.weight.device))[:, None]

    def check(self, condition: Condition) -> None:
        name = self.field.removesuffix("s").replace("_", " ")
        for word in getattr(condition, self.field) or ():
            if word not in (None, *self.known):
                known = ", ".join(self.known) or f"clips of no known {name}"
                raise EchofmError(f"the generator knows no {name} {word!r}; it was trained on {known}")


class View(_Word):
    """view: one of the training clips' views."""

    field, carry = "views", ("view",)

    @staticmethod
    def words(sizes: Sizes) -> tuple[str, ...]:
        return sizes.views

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"views": batch.views}


class TimePoint(_Word):
    """time-point: ED or ES, of single frames, by the ventricle's area in the clip's masks."""

    field, carry = "time_points", ("emptying",)

    @staticmethod
    def words(sizes: Sizes) -> tuple[str, ...]:
        return TIME_POINTS

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"time_points": time_points(batch)}


class LabelMap(Field):
    """label-map: each class of the pixels is a channel beside the latents."""

    field, carry, way = "label_map_BTHW", ("mask",), "channels"
    channels = LEFT_ATRIUM + 2

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.side = sizes.latent[1:]
        self.null = nn.Parameter(torch.zeros(1))

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        return {"label_map_BTHW": batch.mask_BTHW}

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        shape = (clips, *latent_shape[1:])
        return {"label_map_BTHW": torch.full(shape, NOT_ANNOTATED, dtype=torch.uint8)}

    def forward(self, condition: Condition) -> torch.Tensor:
        map_BTHW = condition.label_map_BTHW
        assert map_BTHW is not None
        classes = [map_BTHW == each for each in range(LEFT_ATRIUM + 1)]
        channels = torch.stack([*classes, map_BTHW == NOT_ANNOTATED], 1).float()
        small = F.adaptive_avg_pool3d(channels, (map_BTHW.shape[1], *self.side))
        return torch.cat([small[:, :-1], (1 + self.null) * small[:, -1:]], 1)


class Reference(Field):
    """reference: latents of a frame beside every frame, and which frame it is, where that is known."""

    field, way = "reference_BCTHW", "channels"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.channels = sizes.latent[0] + 1
        self.null = nn.Parameter(torch.zeros(sizes.latent[0], 1, 1, 1))

    @staticmethod
    def read(batch: ClipBatch) -> dict[str, Any]:
        """Any valid frame of a clip, equally likely; of a quarter of the clips without saying which it is."""
        frames, latents = batch.valid_BT.shape[1], batch.video_BCTHW
        drawn_B2 = integers(batch.draw_B, 2, high=2**40, stream=Stream.REFERENCE)
        number_B = drawn_B2[:, 0] % batch.valid_BT.sum(1)
        observed_BT = torch.arange(frames, device=latents.device) == number_B[:, None]
        observed_BT &= (drawn_B2[:, 1] % 4 > 0)[:, None]
        chosen = number_B.view(-1, 1, 1, 1, 1).expand(-1, latents.shape[1], 1, *latents.shape[3:])
        return {"reference_BCTHW": latents.gather(2, chosen).expand_as(latents), "observed_BT": observed_BT}

    def unknown(self, clips: int, latent_shape: Sequence[int]) -> dict[str, Any]:
        observed_BT = torch.zeros(clips, latent_shape[1], dtype=torch.bool)
        return {"reference_BCTHW": torch.full((clips, *latent_shape), math.nan), "observed_BT": observed_BT}

    def forward(self, condition: Condition) -> torch.Tensor:
        latents, observed_BT = condition.reference_BCTHW, condition.observed_BT
        assert latents is not None and observed_BT is not None
        mask = observed_BT[:, None, :, None, None].to(latents.dtype).expand(-1, 1, -1, *latents.shape[3:])
        return torch.cat([torch.where(latents.isnan(), self.null, latents.nan_to_num()), mask], 1)


FIELDS: dict[str, type[Field]] = {
    "ef": EjectionFraction,
    "heart-rate": HeartRate,
    "frame-rate": FrameRate,
    "phase": Phase,
    "view": View,
    "time-point": TimePoint,
    "text": Text,
    "embedding": Embedding,
    "motion": Motion,
    "label-map": LabelMap,
    "reference": Reference,
}


def _labels(batch: ClipBatch, name: str) -> torch.Tensor:
    assert batch.labels is not None
    found = [labels.get(name, math.nan) for labels in batch.labels]
    return torch.tensor([float(each) for each in found], dtype=torch.float32, device=batch.draw_B.device)
