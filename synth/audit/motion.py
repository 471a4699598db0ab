"""The motion level by motion features (`echofm synth train mafe`): the same clips, as another model sees them move.

N clips, D numbers of a clip's motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.sets import Head, Sets, safe_table, text
from synth.audit.settings import Level
from synth.mafe.extract import MotionEncoder, load_mafe


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionLevel:
    """A head (`synth.audit.sets.Head`) whose motion level is MAFE's; its other levels are those of the head beneath it,
    or the features as they are.

    vector: by clip id. beneath: a re-identification head, or None. frames: whether the features have token times.
    """

    vector: Mapping[str, npt.NDArray[np.float32]]
    motion_digest: str
    beneath: Head | None
    frames: bool

    @classmethod
    def of(cls, seen: Sets, beneath: Head | None, *, frames: bool) -> MotionLevel:
        """seen: the sets' tables of motion (`synth.mafe.extract.MotionEncoder`), under the ids of the others."""
        # As `audit` shows them.
        tables = [safe_table(each) for each in seen.tables()]
        mean_D, std_D = _scale(_motion(seen.train))
        vector: dict[str, npt.NDArray[np.float32]] = {}
        for table in tables:
            vector |= dict(zip(text(table.clip_id).tolist(), ((_motion(table) - mean_D) / std_D).astype(np.float32)))
        return cls(vector=vector, motion_digest=seen.train.encoder_digest, beneath=beneath, frames=frames)

    @property
    def levels(self) -> Mapping[Any, Any]:
        """By level, what projects to it."""
        if self.beneath is not None:
            return {**self.beneath.levels, "motion": self}
        return {"clip": None, **({"frame": None} if self.frames else {}), "motion": self}

    def digest(self, level: Level) -> str:
        """Of the motion features, or of the head beneath."""
        return self.motion_digest if level == "motion" or self.beneath is None else self.beneath.digest(level)

    def usable(self, table: EmbeddingTable, *, level: Level) -> npt.NDArray[np.bool_]:
        """(N,) all clips, but for what the head beneath leaves out."""
        if level != "motion" and self.beneath is not None:
            return self.beneath.usable(table, level=level)
        if level != "motion":
            return np.ones(len(table), bool)
        return np.array([each in self.vector for each in text(table.clip_id).tolist()], bool)

    def project(self, table: EmbeddingTable, *, level: Level) -> EmbeddingTable:
        """The same clips at a level."""
        if level != "motion":
            return table if self.beneath is None else self.beneath.project(table, level=level)
        width = len(next(iter(self.vector.values())))
        rows = [self.vector[each] for each in text(table.clip_id).tolist()]
        video_ND = np.array(rows, np.float32).reshape(-1, width)
        return replace(
            table, video_ND=video_ND, motion_NRCD=None, phase=None, tokens=None, encoder_digest=self.motion_digest
        )


def motion_encoder(run: str | Path) -> MotionEncoder:
    """Of a run of `echofm synth train mafe echofm`, or of its export. Raises EchofmError where there is none."""
    if not Path(run).is_dir():
        raise EchofmError(
            "--motion names no folder of a run; train motion features by `echofm synth train mafe echofm`"
        )
    return MotionEncoder(load_mafe(run))


def _motion(table: EmbeddingTable) -> npt.NDArray[np.float64]:
    """(N, D) how far every cell of the coarse grid moves, by head and axis."""
    assert table.motion_NRCD is not None, "motion features have a grid"
    return table.motion_NRCD.reshape(len(table), -1).astype(np.float64)


def _scale(motion_ND: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation over the training clips: what all hearts share says nothing of one."""
    std_D = motion_ND.std(0)
    return motion_ND.mean(0), np.where(std_D > 1e-6, std_D, np.inf)
