"""From a clip as read to its files in a tar: what runs in the reader processes, and what becomes of each file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pydantic

from echofm.clip import Clip
from echofm.conform import conform
from echofm.errors import UnreadableFile
from echofm.readers.patients import PatientBy
from echofm.readers.source import Row
from echofm.shards.manifest import Id, Settings, Split
from echofm.shards.sample import members
from echofm.split import split_of


class Written(pydantic.BaseModel):
    """A clip that went into a tar. Size, rate, dropped_frames and lit_outside are as read, frames as written.

    end: the tar's length with it.
    """

    clip_id: Id
    patient_id: Id
    study_id: Id | None = None
    patient_by: PatientBy = "given"
    split: Split
    view: str | None
    kind: str
    labels: tuple[str, ...]
    native_size: str
    native_rate_hz: str
    frames: int
    dropped_frames: int = 0
    lit_outside: float | None = None
    tar: str = ""
    end: int = 0


class SetAside(pydantic.BaseModel):
    """A file that cannot be used, by its id, and why."""

    file_id: str
    reason: str
    # An exact copy is set aside too, but is no sign of a broken set.
    bad: bool = True


class NotSelected(pydantic.BaseModel):
    """A sound file of a kind that was not asked for."""

    not_selected: str


Outcome = Written | SetAside | NotSelected
# A sound clip, and its files in a tar.
Encoded = tuple[Written | NotSelected, dict[str, bytes]]


def unusable(file_id: str, error: UnreadableFile) -> SetAside | NotSelected:
    """What becomes of a file without a clip: only one that is damaged or of unknown form is a sign of a broken set.

    One without a sector that can be found is set aside with its reason, as a person should look.
    """
    if error.kind and error.kind != "no_sector":
        return NotSelected(not_selected=error.kind)
    return SetAside(file_id=file_id, reason=error.reason, bad=error.kind is None)


@dataclass(frozen=True, kw_only=True)
class Encode:
    """What the reader processes do with a file's clips as read. Picklable: it is sent to each of them once."""

    settings: Settings
    dataset: str

    def __call__(self, row: Row, clips: list[Clip]) -> list[Encoded]:
        """What becomes of each clip, and its files.

        Where the set gives no split it is drawn here, as only the file may know its patient.
        """
        return [self._encoded(row, clip) for clip in clips]

    def _encoded(self, row: Row, clip: Clip) -> Encoded:
        settings = self.settings
        if not settings.selects(clip.kind):
            return NotSelected(not_selected=clip.kind), {}
        height, width = clip.sector_HW.shape
        rate = clip.frame_rate_hz
        done = conform(clip, size=settings.size, frame_rate_hz=settings.frame_rate_hz, channels=settings.channels)
        split = cast(Split, row.split or split_of(clip.patient_id, seed=settings.seed, fractions=settings.fractions))
        outcome = Written(
            clip_id=clip.clip_id,
            patient_id=clip.patient_id,
            study_id=clip.study_id,
            patient_by=cast(PatientBy, clip.patient_by),
            split=split,
            view=clip.view,
            kind=clip.kind,
            labels=tuple(sorted(clip.labels)),
            native_size=f"{height}x{width}",
            native_rate_hz="unknown" if rate is None else f"{rate:.0f}",
            frames=len(done.frames_TCHW),
            dropped_frames=clip.dropped_frames,
            lit_outside=clip.lit_outside,
        )
        return outcome, members(done, split=split, dataset=self.dataset)
