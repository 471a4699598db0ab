"""From a clip as read to its files in a tar: what runs in the reader processes, and what becomes of each file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import pydantic

import echofm
from echofm.clip import Clip
from echofm.conform import conform
from echofm.errors import EchofmError, UnreadableFile
from echofm.readers.patients import PatientBy
from echofm.readers.sector import LOST
from echofm.readers.source import Row
from echofm.shards.manifest import Id, Manifest, Settings, Split, SplitCounts, TarEntry
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


def tally(
    outcomes: Sequence[Outcome],
    tars: tuple[TarEntry, ...],
    *,
    settings: Settings,
    dataset: str,
    patient_rule: str,
    skipped: Counter[str],
) -> Manifest:
    """The manifest of a finished job. patient_rule: what tells patients apart. skipped: files by kind, not even read.

    Raises EchofmError, with what there is instead, where nothing was written.
    """
    written = [outcome for outcome in outcomes if isinstance(outcome, Written)]
    not_selected = skipped + Counter(outcome.not_selected for outcome in outcomes if isinstance(outcome, NotSelected))
    if not written:
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(not_selected.items())) or "nothing readable"
        raise EchofmError(f"no clip of kind {' or '.join(settings.kinds)} to write: {found}; choose another --kind")
    patients = {split: {clip.patient_id for clip in written if clip.split == split} for split in get_args(Split)}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values())), "splits are patient-disjoint"
    return Manifest(
        tool=f"echofm {echofm.__version__}",
        dataset=dataset,
        settings=settings,
        splits={
            split: SplitCounts(
                clips=sum(clip.split == split for clip in written),
                patients=len(patients[split]),
                frames=sum(clip.frames for clip in written if clip.split == split),
                bytes=sum(entry.bytes for entry in tars if entry.split == split),
            )
            for split in get_args(Split)
        },
        patient_disjoint=True,
        patient_rule=patient_rule,
        patients_by=_sorted(Counter(dict(sorted((clip.patient_id, clip.patient_by) for clip in written)).values())),
        views=_sorted(Counter(clip.view or "unknown" for clip in written)),
        kinds=_sorted(Counter(clip.kind for clip in written)),
        labels=_sorted(Counter(label for clip in written for label in clip.labels)),
        frame_rate_hz_histogram=_sorted(Counter(clip.native_rate_hz for clip in written)),
        size_histogram=_sorted(Counter(clip.native_size for clip in written)),
        not_selected=_sorted(not_selected),
        set_aside=sum(isinstance(outcome, SetAside) for outcome in outcomes),
        dropped_frames=sum(clip.dropped_frames for clip in written),
        sector_loses=sum(clip.frames > 1 and (clip.lit_outside or 0) > LOST for clip in written),
        tars=tars,
    )


def set_aside_lines(outcomes: Sequence[Outcome]) -> bytes:
    """One line per file set aside, by file id: its order must not tell the order of the names."""
    rows = sorted((o.file_id, o.reason) for o in outcomes if isinstance(o, SetAside))
    return b"".join(json.dumps({"file_id": file, "reason": reason}).encode() + b"\n" for file, reason in rows)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    """A histogram in the order of its keys, numbers by value."""

    def order(item: tuple[str, int]) -> tuple[list[float], str]:
        numbers = item[0].split("x")
        return [float(number) for number in numbers] if all(n.isdecimal() for n in numbers) else [], item[0]

    return dict(sorted(counts.items(), key=order))
