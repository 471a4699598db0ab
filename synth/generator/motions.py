"""Where the motion of a set's clips comes from: a prior that was trained for it, or a table of clips that move so.

Shapes: B clips, N times of D numbers.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch

from echofm.digest import tensor_digest
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.hub import load_model
from echofm.saved import CONFIG
from synth.condition import Condition
from synth.generator.model import Generator
from synth.latent.codec import MotionCodec
from synth.mafe.extract import MotionEncoder

_STEPS = 25


class Motions(ABC):
    """The motion of each clip, by its number.

    fingerprint: of all that decides it. taken: fields of Condition that it goes by.
    """

    fingerprint: str
    taken: frozenset[str] = frozenset()

    @abstractmethod
    def motion_BND(self, number: int, condition: Condition, draw_B: torch.Tensor) -> torch.Tensor:
        """Of one clip. condition: what is asked of it, of the fields taken."""

    def source(self, number: int) -> str | None:
        """Id of the clip that moves so; None: nobody does."""
        return None


class PriorMotions(Motions):
    """Drawn from a prior for each clip, by its ejection fraction and phases: no patient's."""

    def __init__(self, prior: Generator, codec: MotionCodec, *, times: int) -> None:
        self._prior, self._codec, self._times = prior, codec, times
        self.taken = frozenset(prior.denoiser.conditioner.taken)
        self.fingerprint = f"prior {tensor_digest(prior.denoiser.state_dict(), settings=prior.architecture)}"

    def motion_BND(self, number: int, condition: Condition, draw_B: torch.Tensor) -> torch.Tensor:
        numbers = self._prior.sample(condition, clips=1, steps=_STEPS, draw_B=draw_B)
        return self._codec.motion_BND(numbers, self._times)


class TableMotions(Motions):
    """Of the clips of a table (`echofm synth motion RUN SRC TABLE --windows 1`), in turn."""

    def __init__(self, table: EmbeddingTable, *, times: int) -> None:
        if table.phase is None:
            raise EchofmError("--motion: the table has no motion by time; make it by `echofm synth motion`")
        clips = [(str(name), _window(table.phase.of(row), times)) for row, name in enumerate(table.clip_id)]
        self._clips = [(name, motion) for name, motion in clips if motion is not None]
        if not self._clips:
            raise EchofmError(
                f"--motion: no clip of the table has a window of {times} times; make it by `echofm synth motion RUN "
                "SRC TABLE --windows 1`"
            )
        self.fingerprint = f"table {hashlib.sha256(table.phase.feature_PD.tobytes()).hexdigest()}"

    def motion_BND(self, number: int, condition: Condition, draw_B: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._clips[number % len(self._clips)][1])[None]

    def source(self, number: int) -> str | None:
        return self._clips[number % len(self._clips)][0]


def open_motions(spec: str, generator: Generator) -> Motions:
    """spec: a run of `echofm synth train prior`, or a table. Raises EchofmError where it does not fit the generator."""
    tokens = generator.config.sizes.tokens.get("motion_BND")
    if tokens is None or "motion_BND" not in generator.denoiser.conditioner.taken:
        raise EchofmError("--motion is for generators that were trained with the condition `motion`: video-motion")
    folder = Path(spec) / "export" if (Path(spec) / "export").is_dir() else Path(spec)
    if (folder / CONFIG).is_file():
        prior = load_model(folder)
        codec = prior.codec if isinstance(prior, Generator) else None
        if not isinstance(codec, MotionCodec):
            raise EchofmError("--motion: the model given makes no motion; give a run of `echofm synth train prior`")
        contract, own = prior.contract, generator.contract
        if (contract.frames, contract.frame_rate_hz) != (own.frames, own.frame_rate_hz):
            raise EchofmError("--motion: the prior's windows are of another length or rate than the generator's")
        _require_same(MotionEncoder(codec.net).digest, generator)
        return PriorMotions(prior, codec, times=tokens[0])
    table = EmbeddingTable.load(spec)
    _require_same(table.encoder_digest, generator)
    return TableMotions(table, times=tokens[0])


def _require_same(digest: str, generator: Generator) -> None:
    if generator.config.motion not in (None, digest):
        raise EchofmError("--motion is of another motion network than the one that the generator was trained with")


def _window(tokens: PhaseTokens, times: int) -> np.ndarray | None:
    """(N, D) of the window of which most times are there; None where they are too few."""
    windows, counts = np.unique(tokens.window_P, return_counts=True)
    if not len(counts) or counts.max() < times:
        return None
    return tokens.feature_PD[tokens.window_P == windows[counts.argmax()]][:times]
