"""Conditioner: a Condition to numbers for a network, by the fields that a generator takes. Shapes: as of Condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from echofm.clip import ClipBatch
from echofm.draws import Stream, uniform
from echofm.errors import EchofmError
from echofm.shards.carry import Carry
from synth.condition import Condition
from synth.condition_field import Field, Sizes
from synth.condition_fields import FIELDS

RATES = ("heart_rate_bpm_B", "frame_rate_hz_B")


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What a network is given, each None where no field has that way in."""

    vector_BTD: torch.Tensor | None
    tokens_BND: torch.Tensor | None
    channels_BCTHW: torch.Tensor | None
    control_BCTHW: torch.Tensor | None = None

    def window(self, first: int, frames: int) -> Encoded:
        """Of frames first .. first + frames - 1; tokens are of the whole clip."""
        vector, channels, control = self.vector_BTD, self.channels_BCTHW, self.control_BCTHW
        return Encoded(
            vector_BTD=None if vector is None else vector.narrow(1, first, frames),
            tokens_BND=self.tokens_BND,
            channels_BCTHW=None if channels is None else channels.narrow(2, first, frames),
            control_BCTHW=None if control is None else control.narrow(2, first, frames),
        )


class Conditioner(nn.Module):
    """The fields that a generator takes, by their names in FIELDS.

    control: further ones, whose channels are for a branch of the network.
    guided: those that guidance strengthens: all but reference and label map, which say where the anatomy is, and stay.
    """

    def __init__(self, names: Sequence[str], sizes: Sizes, *, control: Sequence[str] = ()) -> None:
        super().__init__()
        self.control, names = tuple(control), (*names, *control)
        for name in names:
            if name not in FIELDS:
                raise EchofmError(f"no condition {name!r}; there are {', '.join(FIELDS)}")
        self.width = sizes.width
        self.parts = nn.ModuleDict({name: FIELDS[name](sizes) for name in names})
        channels = {name: field.channels for name, field in zip(names, self.fields)}
        self.control_channels = sum(channels[name] for name in control)
        self.channels = sum(channels.values()) - self.control_channels
        self.carry: list[Carry] = sorted({each for field in self.fields for each in field.carry})
        self.guided = [field.field for field in self.fields if field.way != "channels"]

    @property
    def fields(self) -> list[Field]:
        """In their order."""
        return [cast(Field, part) for part in self.parts.values()]

    @property
    def taken(self) -> set[str]:
        """Fields of Condition that it takes."""
        own = {field.field for field in self.fields}
        return own | ({"observed_BT"} if "reference_BCTHW" in own else set())

    def read(self, batch: ClipBatch) -> Condition:
        """What training clips, whose video is latents, say of themselves."""
        held: dict[str, Any] = {}
        for field in self.fields:
            held |= field.read(batch)
        return Condition(**held)

    def drop(
        self, condition: Condition, draw_B: torch.Tensor, probability: float, *, but: Mapping[str, float] | None = None
    ) -> Condition:
        """Unknown by draws of each clip: with this probability all guided fields together, and each field alone.

        but: fields that have another probability.
        """
        chances = [probability, *((but or {}).get(field.field, probability) for field in self.fields)]
        drawn_BF = uniform(draw_B, len(chances), stream=Stream.CONDITION)
        dropped_BF = drawn_BF < torch.tensor(chances, dtype=drawn_BF.dtype, device=drawn_BF.device)
        for number, field in enumerate(self.fields):
            alone_B = dropped_BF[:, number + 1]
            dropped_B = alone_B | dropped_BF[:, 0] if field.field in self.guided else alone_B
            condition = condition.without([field.field], dropped_B)
        return condition

    def complete(self, condition: Condition, clips: int, latent_shape: Sequence[int]) -> Condition:
        """With what is not asked as unknown. Raises EchofmError where something is asked that it does not take."""
        held = condition.held()
        if condition.phase_BT is not None:
            # The frames' phases say both already.
            held = {name: value for name, value in held.items() if name in self.taken or name not in RATES}
        for name in held:
            if name not in self.taken:
                raise EchofmError(
                    f"the generator takes no {name}; it was trained with {', '.join(self.parts) or 'none'}"
                )
        unknown: dict[str, Any] = {}
        for field in self.fields:
            field.check(condition)
            unknown |= field.unknown(clips, latent_shape)
        return Condition(**{**unknown, **held})

    def forward(self, condition: Condition, frames: int) -> Encoded:
        """Of a complete condition, of clips of so many frames."""
        ways: dict[str, list[torch.Tensor]] = {"vector": [], "tokens": [], "channels": [], "control": []}
        for name, field in zip(self.parts, self.fields):
            encoded, way = field(condition), "control" if name in self.control else field.way
            ways[way].append(each_frame(encoded, frames) if way == "vector" else encoded)
        return Encoded(
            vector_BTD=torch.stack(ways["vector"]).sum(0) if ways["vector"] else None,
            tokens_BND=torch.cat(ways["tokens"], 1) if ways["tokens"] else None,
            channels_BCTHW=torch.cat(ways["channels"], 1) if ways["channels"] else None,
            control_BCTHW=torch.cat(ways["control"], 1) if ways["control"] else None,
        )


def each_frame(vector_BND: torch.Tensor, frames: int) -> torch.Tensor:
    """(B, frames, D): of N times spread evenly over a clip the nearest to each frame."""
    number = (torch.arange(frames, device=vector_BND.device) + 0.5) * (vector_BND.shape[1] / frames)
    return vector_BND[:, number.long()]
