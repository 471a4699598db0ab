"""Condition: what is asked of clips. Each field is optional, and so is each clip's value in it.

Shapes: B clips, T frames, N tokens of D numbers; C, H, W channels, rows, columns of the codec's latents, for label maps
of pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from echofm.clip import NOT_ANNOTATED
from echofm.errors import EchofmError


@dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What is asked of B clips; None, or unknown for a clip: the generator chooses.

    ef_percent_B: ejection fraction, 0 to 100. heart_rate_bpm_B. frame_rate_hz_B. phase_BT: of every frame, in [0, 1), 0
        at end-diastole; `of` makes it of the first frame's. Unknown: NaN.
    views: "A4C", ...; time_points: "ED" or "ES", of single frames; texts: as synth.text.grammar reads. Unknown: None.
    embedding_BND: tokens of the EchoFM encoder, time outermost. motion_BND: of a motion network. Unknown: NaN.
    label_map_BTHW: uint8 classes of echofm.clip; unknown: NOT_ANNOTATED everywhere.
    reference_BCTHW: latents of a frame of the same heart beside each frame; unknown: NaN. observed_BT: bool, True where
        it is that very frame, which is to stay; all False: a frame of no known time.
    """

    ef_percent_B: torch.Tensor | None = None
    heart_rate_bpm_B: torch.Tensor | None = None
    frame_rate_hz_B: torch.Tensor | None = None
    phase_BT: torch.Tensor | None = None
    views: Sequence[str | None] | None = None
    time_points: Sequence[str | None] | None = None
    texts: Sequence[str | None] | None = None
    embedding_BND: torch.Tensor | None = None
    motion_BND: torch.Tensor | None = None
    label_map_BTHW: torch.Tensor | None = None
    reference_BCTHW: torch.Tensor | None = None
    observed_BT: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        clips: int,
        *,
        frames: int,
        frame_rate_hz: float | None = None,
        ef_percent: float | Sequence[float] | None = None,
        heart_rate_bpm: float | Sequence[float] | None = None,
        first_phase: float | Sequence[float] | None = None,
        view: str | Sequence[str | None] | None = None,
        time_point: str | Sequence[str | None] | None = None,
        text: str | Sequence[str | None] | None = None,
        **tensors: Any,
    ) -> Condition:
        """Of plain numbers, each one for all clips or one for each; `tensors`: the other fields as they are.

        The phase of every frame follows from the first one's, the heart rate and the frame rate.
        Raises EchofmError on numbers that cannot be meant so, such as an ejection fraction of 0.55.
        """
        ef, heart_rate, phase = (_numbers(each, clips) for each in (ef_percent, heart_rate_bpm, first_phase))
        _check(ef, heart_rate)
        phase_BT = None
        if phase is not None:
            if heart_rate is None or frame_rate_hz is None:
                raise EchofmError(
                    "a first phase needs a heart rate and a frame rate: the other frames' follow from them"
                )
            phase_BT = (phase[:, None] + torch.arange(frames) * heart_rate[:, None] / (60 * frame_rate_hz)) % 1
        return cls(
            ef_percent_B=ef,
            heart_rate_bpm_B=heart_rate,
            frame_rate_hz_B=_numbers(frame_rate_hz, clips),
            phase_BT=phase_BT,
            views=_words(view, clips),
            time_points=_words(time_point, clips),
            texts=_words(text, clips),
            **tensors,
        )

    def held(self) -> dict[str, Any]:
        """Its fields that are not None, by name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}

    def only(self, names: Collection[str]) -> Condition:
        """Of the named fields alone."""
        return Condition(**{name: value for name, value in self.held().items() if name in names})

    def __len__(self) -> int:
        lengths = {len(value) for value in self.held().values()}
        assert len(lengths) == 1, "a condition that asks for something, of as many clips in all its fields"
        return lengths.pop()

    def __getitem__(self, part: slice) -> Condition:
        """Of a contiguous part of the clips."""
        return replace(self, **{name: value[part] for name, value in self.held().items()})

    def to(self, device: torch.device | str) -> Condition:
        """On a device."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in self.held().items() if isinstance(v, torch.Tensor)}
        return replace(self, **moved)

    def without(self, names: Collection[str], dropped_B: torch.Tensor | None = None) -> Condition:
        """The named fields unknown, of all clips or of these: what a generator's null stands for."""
        changed = {
            name: _unknown(name, value, dropped_B)
            for name, value in self.held().items()
            if name in names or (name == "observed_BT" and "reference_BCTHW" in names)
        }
        return replace(self, **changed)


def joined(parts: Sequence[Condition]) -> Condition:
    """Clips of several conditions, which ask for the same fields, as one."""
    held = [part.held() for part in parts]
    assert all(each.keys() == held[0].keys() for each in held)
    return Condition(**{name: _together([each[name] for each in held]) for name in held[0]})


def _together(values: Sequence[Any]) -> Any:
    return torch.cat(list(values)) if isinstance(values[0], torch.Tensor) else [one for each in values for one in each]


def _unknown(name: str, value: Any, dropped_B: torch.Tensor | None) -> Any:
    if not isinstance(value, torch.Tensor):
        gone = [True] * len(value) if dropped_B is None else dropped_B.tolist()
        return [None if each else word for each, word in zip(gone, value)]
    nothing = {"observed_BT": False, "label_map_BTHW": NOT_ANNOTATED}.get(name, math.nan)
    if dropped_B is None:
        return torch.full_like(value, nothing)
    return value.masked_fill(dropped_B.view(-1, *[1] * (value.ndim - 1)), nothing)


def _words(given: str | Sequence[str | None] | None, clips: int) -> Sequence[str | None] | None:
    return [given] * clips if isinstance(given, str) else None if given is None else list(given)


def _numbers(given: float | Sequence[float] | None, clips: int) -> torch.Tensor | None:
    if given is None:
        return None
    numbers = torch.as_tensor(given, dtype=torch.float32)
    if numbers.ndim and len(numbers) != clips:
        raise EchofmError(f"{len(numbers)} values for {clips} clips; give one for all, or one for each")
    return numbers.expand(clips).clone()


def _check(ef: torch.Tensor | None, heart_rate: torch.Tensor | None) -> None:
    if ef is not None:
        _refuse(ef, (ef < 0) | (ef > 100), "an ejection fraction of {:g}; give percent, 0 to 100")
        _refuse(ef, (ef > 0) & (ef <= 1), "an ejection fraction of {:g} percent; give 55 for 0.55")
    if heart_rate is not None:
        wrong = (heart_rate < 10) | (heart_rate > 400)
        _refuse(heart_rate, wrong, "a heart rate of {:g}; give beats per minute, 10 to 400")


def _refuse(values_B: torch.Tensor, wrong_B: torch.Tensor, text: str) -> None:
    if wrong_B.any():
        raise EchofmError(text.format(float(values_B[wrong_B][0])))
