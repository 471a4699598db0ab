"""What a person should look at: leakage first, then what cannot be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echofm.check.duplicates import Pair
from echofm.check.facts import Facts
from echofm.errors import UnreadableFile
from echofm.readers.sector import LOST
from echofm.split import split_of


@dataclass(frozen=True)
class Finding:
    """code: a stable word for programs. text: one sentence with its number.

    groups: hashed ids that belong together, of files; for patients_in_two_splits of patients.
    is_problem: whether it needs a person; a note does not change the exit code.
    """

    code: str
    text: str
    is_problem: bool = True
    groups: tuple[tuple[str, ...], ...] = ()


def splits_in_force(facts: Sequence[Facts], *, seed: int) -> list[str]:
    """The split of each clip in shards: its patient's own in the set, else by hash as `echofm shards` makes it."""
    given = {one.patient_id: one.split for one in facts if one.split is not None}
    return [one.split or given.get(one.patient_id) or split_of(one.patient_id, seed=seed) for one in facts]


def find(
    facts: Sequence[Facts],
    pairs: Sequence[Pair],
    set_aside: Sequence[UnreadableFile],
    notes: Mapping[str, int],
    *,
    seed: int,
    doubt: str | None = None,
) -> list[Finding]:
    """All findings, the gravest first. doubt: why it is not known who the patients are (readers.patients.Doubts)."""
    findings = [Finding("patients_unknown", doubt)] if doubt else []
    findings += _duplicates(facts, pairs, splits_in_force(facts, seed=seed)) + _patients_in_two_splits(facts)
    for code, kind, what in (
        ("set_aside", None, "cannot be read and would be set aside"),
        ("no_sector", "no_sector", "without an ultrasound sector that can be found: they would be set aside"),
    ):
        ids = tuple(error.file_id for error in set_aside if error.kind == kind)
        if ids:
            findings.append(Finding(code, f"{_many(len(ids), 'file')} {what}", groups=(ids,)))
    lost = tuple(one.file_id for one in sorted(facts, key=lambda one: -one.lost) if one.lost > LOST)
    if lost:
        text = (
            f"{_many(len(lost), 'clip')} whose sector leaves out more than {LOST:.0%} of what changes on the screen or "
            "of the set's own trace: look at them in --html FILE"
        )
        findings.append(Finding("sector_loses", text, groups=(lost,)))
    unknown = [one.file_id for one in facts if one.frames > 1 and one.frame_rate_hz is None]
    if unknown:
        text = (
            f"{_many(len(unknown), 'cine')} without a known frame rate: `echofm shards` keeps their frames as they are"
        )
        findings.append(Finding("frame_rate_unknown", text, groups=(tuple(unknown),)))
    if not facts:
        findings.insert(0, Finding("nothing", "no file of this folder can be used"))
    pages = [one.dropped_frames for one in facts if one.dropped_frames]
    if pages:
        text = f"{_many(sum(pages), 'frame')} before or after {_many(len(pages), 'cine')} that are no echo: left out"
        findings.append(Finding("dropped_frames", text, is_problem=False))
    several = {name: count for name, count in Counter(one.file_id for one in facts).items() if count > 1}
    if several:
        text = (
            f"{_many(len(several), 'file')} that declare several images: a clip of each, {sum(several.values())} in all"
        )
        findings.append(Finding("several_clips", text, is_problem=False, groups=(tuple(several),)))
    kinds = Counter(one.kind for one in facts if one.kind != "bmode")
    findings += _by_kind("other_kinds", kinds, "not greyscale cines: {}; `echofm shards --kind` selects")
    intact = Counter(error.kind for error in set_aside if error.kind and error.kind != "no_sector")
    findings += _by_kind("no_clips", intact, "intact, but no image of a heart: {}")
    findings += [Finding("note", f"{text}: {count}", is_problem=False) for text, count in sorted(notes.items())]
    return findings


def _by_kind(code: str, kinds: Mapping[str, int], text: str) -> list[Finding]:
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return [Finding(code, text.format(named), is_problem=False)] if kinds else []


def _duplicates(facts: Sequence[Facts], pairs: Sequence[Pair], splits: Sequence[str]) -> list[Finding]:
    """Groups of clips that show one recording, sorted by the harm that they do."""
    across_patients, across_splits, within = [], [], []
    for group in _groups(pairs):
        ids = tuple(facts[place].file_id for place in group)
        if len({splits[place] for place in group}) > 1:
            across_splits.append(ids)
        elif len({facts[place].patient_id for place in group}) > 1:
            across_patients.append(ids)
        else:
            within.append(ids)
    found = []
    if across_splits:
        text = f"{_many(len(across_splits), 'recording')} in several splits: what is learnt leaks into the test"
        found.append(Finding("duplicates_across_splits", text, groups=tuple(across_splits)))
    if across_patients:
        text = f"{_many(len(across_patients), 'recording')} under several patients"
        found.append(Finding("duplicates_across_patients", text, groups=tuple(across_patients)))
    if within:
        text = f"{_many(len(within), 'recording')} more than once, each within one patient"
        found.append(Finding("duplicates_within_patient", text, is_problem=False, groups=tuple(within)))
    return found


def _groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """Clips linked by pairs, directly or not; sorted."""
    leader: dict[int, int] = {}

    def top(place: int) -> int:
        while leader.setdefault(place, place) != place:
            place = leader[place]
        return place

    for pair in pairs:
        first, second = sorted((top(pair.first), top(pair.second)))
        leader[second] = first
    groups = defaultdict(list)
    for place in sorted(leader):
        groups[top(place)].append(place)
    return list(groups.values())


def _patients_in_two_splits(facts: Sequence[Facts]) -> list[Finding]:
    splits = defaultdict(set)
    for one in facts:
        if one.split is not None:
            splits[one.patient_id].add(one.split)
    torn = tuple((patient,) for patient, names in sorted(splits.items()) if len(names) > 1)
    if not torn:
        return []
    text = f"{_many(len(torn), 'patient')} in several splits of the set's own table: `echofm shards` refuses them"
    return [Finding("patients_in_two_splits", text, groups=torn)]


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
