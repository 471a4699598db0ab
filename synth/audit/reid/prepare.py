"""A table as a head is trained on it: principal components of its samples, and who belongs together.

M samples, K components, N clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from echofm.embed.positions import position_means
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from synth.audit.reid.cycle import common_template
from synth.audit.reid.head import Components, Head
from synth.audit.reid.samples import FIRST, SECOND, Level, Source, blocks, samples, whole_clips
from synth.audit.reid.verify import Recordings

Positives = Literal["view", "patient"]
Texts = npt.NDArray[np.str_]
# Components and template are found on so many clips at most.
_MOST_CLIPS = 3000


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """component_MK: of every sample. clip_M, part_M: as in Samples. clip_N, patient_N, view_N: of the table's rows."""

    component_MK: torch.Tensor
    clip_M: npt.NDArray[np.int64]
    part_M: npt.NDArray[np.int64]
    clip_N: Texts
    patient_N: Texts
    view_N: Texts

    def group_M(self, positives: Positives) -> npt.NDArray[np.int64]:
        """Samples of equal number shall meet: those of one patient, or of one patient in one view."""
        names = self.patient_N
        if positives == "view":
            names = np.array([f"{patient}\0{view}" for patient, view in zip(self.patient_N, self.view_N)])
        return np.unique(names, return_inverse=True)[1][self.clip_M]

    @torch.no_grad()
    def projected(self, head: Head) -> npt.NDArray[np.float32]:
        """(M, E) what a head makes of the samples."""
        head.eval()
        return head.from_components(self.component_MK[:, : head.inputs]).numpy()

    def recordings(self, feature_ME: npt.NDArray[np.float32], part: int | None) -> Recordings:
        """The samples of one half of each clip; None: whole clips."""
        if part is None:
            feature = whole_clips(feature_ME, self.clip_M, self.part_M, len(self.clip_N))
            rows = np.flatnonzero(np.isfinite(feature[:, 0]))
            feature = feature[rows]
        else:
            chosen = self.part_M == part
            feature, rows = feature_ME[chosen], self.clip_M[chosen]
        return Recordings(
            feature_QD=feature, clip_Q=self.clip_N[rows], patient_Q=self.patient_N[rows], view_Q=self.view_N[rows]
        )

    def halves(self, feature_ME: npt.NDArray[np.float32]) -> tuple[Recordings, Recordings]:
        """The first and the second halves of the clips that have both."""
        return self.recordings(feature_ME, FIRST), self.recordings(feature_ME, SECOND)


def names(column: npt.NDArray[np.object_]) -> Texts:
    """A text column as an array; what is missing becomes one name of its own."""
    return np.array(["" if value is None else str(value) for value in column])


@dataclass(frozen=True, kw_only=True, eq=False)
class Preparation:
    """From a table to components: what level, source and training clips decide. template_KD, position_TD: of motion."""

    level: Level
    source: Source
    bins: int
    components: Components
    template_KD: npt.NDArray[np.float32] | None
    position_TD: npt.NDArray[np.float32] | None

    @classmethod
    def of(
        cls, table: EmbeddingTable, level: Level, *, source: Source, bins: int, components: int, seed: int
    ) -> Preparation:
        """Found on the training clips, a drawn part of them where there are very many."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:_MOST_CLIPS])
        few = table.select(rows)
        template = position = None
        if level == "motion":
            position = position_means(few)
            cycles = samples(few, level, source=source, bins=bins, position_TD=position)
            if len(cycles) == 0:
                raise EchofmError(
                    "no training clip shows a whole heart cycle, which the motion level needs; leave motion out of "
                    "--levels or embed longer clips of known frame times"
                )
            template = common_template(cycles.feature_MD.reshape(len(cycles), bins, -1).astype(np.float64)).astype(
                np.float32
            )
        found = samples(few, level, source=source, bins=bins, template_KD=template, position_TD=position)
        return cls(
            level=level,
            source=source,
            bins=bins,
            components=Components.of(found.feature_MD, components=components, seed=seed),
            template_KD=template,
            position_TD=position,
        )

    def prepared(self, table: EmbeddingTable) -> Prepared:
        """A table's samples as components, part by part."""
        parts, owners, halves = [], [], []
        for first, block in blocks(table):
            found = samples(
                block,
                self.level,
                source=self.source,
                bins=self.bins,
                template_KD=self.template_KD,
                position_TD=self.position_TD,
            )
            with torch.no_grad():
                parts.append(self.components(torch.from_numpy(np.array(found.feature_MD))))
            owners.append(first + found.clip_M)
            halves.append(found.part_M)
        return Prepared(
            component_MK=torch.cat(parts),
            clip_M=np.concatenate(owners),
            part_M=np.concatenate(halves),
            clip_N=names(table.clip_id),
            patient_N=names(table.patient_id),
            view_N=names(table.view),
        )
