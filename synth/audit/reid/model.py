"""Reid: one head per level on one base encoder; turns an EmbeddingTable into a table of re-identification features.

N clips, T frames, E = 128 features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from echofm.digest import tensor_digest
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.config import LevelConfig, ReidConfig
from synth.audit.reid.head import Head
from synth.audit.reid.options import WIDTH, Half
from synth.audit.reid.samples import Samples, Sampling, blocks, whole_clips
from synth.audit.settings import Level


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelModel:
    """The head of a level, how it was made (config) and what it reads (sampling)."""

    config: LevelConfig
    head: Head
    sampling: Sampling

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that decides the features, by name."""
        extra = {"template_KD": self.sampling.template_KD, "position_TD": self.sampling.position_TD}
        found = self.head.state_dict()
        found |= {name: torch.from_numpy(array) for name, array in extra.items() if array is not None}
        return {name: tensor.detach().contiguous() for name, tensor in found.items()}

    def samples(self, table: EmbeddingTable) -> Samples:
        """The table's samples as the head reads them. Raises EchofmError where the table does not have them."""
        found = self.sampling.samples(table)
        width = found.feature_MD.shape[1]
        if width != self.config.features:
            raise EchofmError(
                f"samples at the {self.config.level} level have {width} numbers, its head reads "
                f"{self.config.features}; embed with the same --tokens as for the head"
            )
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Reid:
    """A re-identification model: frozen heads on the features of one base encoder."""

    config: ReidConfig
    levels: Mapping[Level, LevelModel]

    @property
    def half(self) -> Half:
        """Which of the training patients it was fitted on."""
        return self.config.half

    def digest(self, level: Level = "clip") -> str:
        """sha256 over the base encoder's digest, the level and all that its head computes with."""
        model = self._level(level)
        made = model.config.model_dump(mode="json", include={"level", "source", "bins", "features", "hidden"})
        return tensor_digest(model.tensors(), settings=[self.config.base_encoder_digest, made])

    def usable(self, table: EmbeddingTable, *, level: Level = "clip") -> npt.NDArray[np.bool_]:
        """(N,) the clips that have features at a level: all, but at the motion level those with a whole cycle alone."""
        self._require(table)
        model = self._level(level)
        found = [_whole(model, block) for _, block in blocks(table)]
        return np.isfinite(np.concatenate([each[:, 0] for each in found])) if found else np.zeros(0, bool)

    def project(self, table: EmbeddingTable, level: Level = "clip") -> EmbeddingTable:
        """The same clips with re-identification features: video_ND of 128 numbers and length one, compared by cosine.

        At the frame level `phase` holds those of the single frames. The encoder digest is `digest(level)`.
        Raises EchofmError on a table of another encoder or other settings, and on clips without a cycle for motion.
        """
        self._require(table)
        model = self._level(level)
        video, frames = [], []
        for _, block in blocks(table):
            found = model.samples(block)
            unit_ME = model.head.project(found.feature_MD)
            video.append(whole_clips(unit_ME, found.clip_M, found.part_M, len(block)))
            if level == "frame":
                lengths = np.bincount(found.clip_M, minlength=len(block))
                frames += np.split(unit_ME, np.cumsum(lengths)[:-1])
        video_NE = np.concatenate(video) if video else np.zeros((0, WIDTH), np.float32)
        without = int(np.isnan(video_NE[:, 0]).sum())
        if without:
            raise EchofmError(
                f"{without} of {len(table)} clips show no whole heart cycle, which the {level} level needs; leave that "
                "level out, select the clips of `Reid.usable`, or embed longer clips of known frame times"
            )
        return EmbeddingTable(
            video_ND=video_NE,
            rows=table.rows,
            phase=_timeline(table, frames, from_phase=model.config.source == "phase") if frames else None,
            encoder_digest=self.digest(level),
            contract=table.contract,
            settings=table.settings,
        )

    def _level(self, level: Level) -> LevelModel:
        if level not in self.levels:
            raise EchofmError(
                f"this re-identification model has no {level} level; it has {', '.join(self.levels)}: "
                "fit one with --levels"
            )
        return self.levels[level]

    def _require(self, table: EmbeddingTable) -> None:
        base = self.config.base_encoder_digest
        if table.encoder_digest != base:
            raise EchofmError(
                f"the table comes from encoder {table.encoder_digest[:12]}, this re-identification model reads "
                f"features of {base[:12]}; embed the clips with that encoder"
            )
        if dict(table.settings) != self.config.settings:
            raise EchofmError(
                f"the table was embedded with {dict(table.settings)}, this re-identification model reads "
                f"features made with {self.config.settings}; embed with the same options"
            )


def require_separate(filter_model: Reid, judge: Reid) -> None:
    """Raises EchofmError where a judge would only repeat the filter: one model, shared patients, or one seed."""
    reason = why_not_separate(filter_model, judge)
    if reason is not None:
        raise EchofmError(
            f"filter and judge are not separate: {reason}; "
            "fit them with --role filter and --role judge under one --seed"
        )


def why_not_separate(filter_model: Reid, judge: Reid) -> str | None:
    """Why a judge would only repeat the filter; None where it does not."""
    one, other = filter_model.config, judge.config
    if one.weights_sha256 == other.weights_sha256:
        return "they are one model"
    if "all" in (one.half, other.half):
        return "one of them was fitted on all training patients, so the other saw a part of the same"
    if one.half == other.half:
        return f"both were fitted on half {one.half} of the training patients"
    return f"both began from seed {one.seed}" if one.seed == other.seed else None


def _whole(model: LevelModel, table: EmbeddingTable) -> npt.NDArray[np.float32]:
    """(N, 1) finite where a clip has a sample."""
    found = model.samples(table)
    ones = np.ones((len(found), 1), np.float32)
    return whole_clips(ones, found.clip_M, found.part_M, len(table))


def _timeline(table: EmbeddingTable, frames: list[npt.NDArray[np.float32]], *, from_phase: bool) -> PhaseTokens:
    if from_phase and table.phase is not None:
        return replace(table.phase, feature_PD=np.concatenate(frames))
    return PhaseTokens.from_arrays(frames)
