"""From what became of each file to manifest.json and set_aside.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import echofm
from echofm.errors import EchofmError
from echofm.readers.sector import LOST
from echofm.shards.encode import NotSelected, Outcome, SetAside, Written
from echofm.shards.manifest import Manifest, Settings, Split, SplitCounts, TarEntry


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
