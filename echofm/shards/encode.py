"""From one file of a set to its bytes in a tar: what runs in the reader processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pydantic

from echofm.clip import Clip
from echofm.conform import conform
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.shards.manifest import Id, Settings, Split
from echofm.shards.sample import tar_blocks
from echofm.split import split_of


class Written(pydantic.BaseModel):
    """A clip that went into a tar. Size and rate are as read, frames as written; `end` is the tar's length with it."""

    clip_id: Id
    patient_id: Id
    split: Split
    view: str | None
    kind: str
    labels: tuple[str, ...]
    native_size: str
    native_rate_hz: str
    frames: int
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


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Reads, conforms and encodes one row. Picklable: it is sent to the reader processes once."""

    read: Callable[[Row], Clip]
    settings: Settings
    dataset: str
    key: IdKey

    def __call__(self, task: tuple[Row, Split | None]) -> tuple[Outcome, bytes]:
        """What became of the file, and its tar records where it is to be written.

        Where the set gives no split it is drawn here, as only the file may know its patient.
        """
        row, split = task
        if row.kind is not None and not self._selected(row.kind):
            return NotSelected(not_selected=row.kind), b""
        try:
            clip = self.read(row)
        except UnreadableFile as error:
            return SetAside(file_id=self.key.file(row.path), reason=error.reason), b""
        if not self._selected(clip.kind):
            return NotSelected(not_selected=clip.kind), b""
        height, width = clip.sector_HW.shape
        rate = clip.frame_rate_hz
        settings = self.settings
        done = conform(clip, size=settings.size, frame_rate_hz=settings.frame_rate_hz, channels=settings.channels)
        if split is None:
            split = cast(Split, split_of(clip.patient_id, seed=settings.seed, fractions=settings.fractions))
        outcome = Written(
            clip_id=clip.clip_id,
            patient_id=clip.patient_id,
            split=split,
            view=clip.view,
            kind=clip.kind,
            labels=tuple(sorted(clip.labels)),
            native_size=f"{height}x{width}",
            native_rate_hz="unknown" if rate is None else f"{rate:.0f}",
            frames=len(done.frames_TCHW),
        )
        return outcome, tar_blocks(done, split=split, dataset=self.dataset)

    def _selected(self, kind: str) -> bool:
        return "all" in self.settings.kinds or kind in self.settings.kinds
