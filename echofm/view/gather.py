"""Read what a page shows of each clip: some frames, what is known of it, what is odd about it.

K frames shown, H rows, W columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from echofm.check.duplicates import find_copies
from echofm.check.fingerprint import Fingerprint, fingerprint
from echofm.clip import BACKGROUND, NOT_ANNOTATED, Clip, Label
from echofm.conform import conform
from echofm.embed.videos import Videos
from echofm.errors import EchofmError, UnreadableFile
from echofm.progress import progress_bar
from echofm.readers.sector import LOST
from echofm.shards.splits import given_splits
from echofm.split import split_of

RATE_HZ = 25.0
# About two beats.
_MOST_FRAMES = 50
_SHORT_S = 0.8


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """One clip. clip_id, patient_id: keyed hashes. frames_KHW: uint8 grey, RATE_HZ apart where times are known.
    findings: in words."""

    clip_id: str
    patient_id: str
    frames_KHW: npt.NDArray[np.uint8]
    view: str | None
    kind: str
    split: str | None
    seconds: float | None
    frame_rate_hz: float | None
    labels: Mapping[str, Label]
    findings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """seen: the clips shown. clips: of how many they are a choice (of files, files), in the splits asked for; as
    many as are shown where none was left out for their number. set_aside: files that gave none, by reason; kinds other
    than clips of a heart are counted under their names."""

    seen: Sequence[Seen]
    clips: int
    set_aside: Mapping[str, int]


def gather(videos: Videos, *, most: int, size: int, splits: Sequence[str] = ()) -> Gathered:
    """Read at most `most` clips, spread evenly over the set, at `size` pixels a side.

    Raises EchofmError where no clip can be read.
    """
    whole = _of_splits(videos, splits) if splits else videos
    some = _spread(whole, most)
    split_of: dict[str, str] = {}
    if some.shards is not None:
        split_of = {record.clip_id: str(record.meta.split) for record in some.shards.records}
    found: dict[str, tuple[Seen, Fingerprint, Fingerprint]] = {}
    set_aside: dict[str, int] = {}
    twice: set[str] = set()
    with progress_bar("reading", len(some)) as bar:
        for each in some.every(functools.partial(_seen, size=size), splits=splits):
            bar.advance()
            if isinstance(each, UnreadableFile):
                set_aside[each.kind or each.reason] = set_aside.get(each.kind or each.reason, 0) + 1
                continue
            clip, _, (seen, sector_print, picture_print) = each
            if clip in found:
                twice.add(clip)
            found[clip] = replace(seen, split=split_of.get(clip)), sector_print, picture_print
    if not found:
        if splits and not set_aside:
            raise EchofmError(f"no clip of this set is in {', '.join(splits)}; `echofm check` counts the clips of each")
        raise EchofmError("no clip of this set can be shown; `echofm check` says why each file is set aside")
    clips = len(whole) if len(some) < len(whole) else len(found)
    return Gathered(seen=_with_copies(found, twice, some.processes), clips=clips, set_aside=set_aside)


def _of_splits(videos: Videos, splits: Sequence[str]) -> Videos:
    """The clips of these splits; of files also those whose patient, and so their split, only the file tells."""
    if videos.shards is not None:
        records = [each for each in videos.shards.records if each.meta.split in splits]
        return replace(videos, shards=replace(videos.shards, records=records))
    key, rows = videos.options.key, []
    for row, given in zip(videos.rows, given_splits(videos.rows, key=key)):
        known = given or (split_of(key.patient(row.patient)) if row.patient else None)
        if known is None or known in splits:
            rows.append(replace(row, split=given))
    return replace(videos, rows=rows)


def _spread(videos: Videos, most: int) -> Videos:
    """The set, or an even choice of it; files lie in the order of their hashed names."""
    count = len(videos)
    places = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    if videos.shards is not None:
        chosen = [videos.shards.records[place] for place in places]
        return replace(videos, shards=replace(videos.shards, records=chosen))
    return replace(videos, rows=[videos.rows[place] for place in places])


def _seen(clip: Clip, _: object, *, size: int) -> tuple[Seen, Fingerprint, Fingerprint]:
    small = conform(clip, size=size, frame_rate_hz=RATE_HZ, channels=1)
    frames, rate_hz = len(clip.frames_TCHW), clip.frame_rate_hz
    seconds = None if rate_hz is None or frames == 1 else frames / rate_hz
    seen = Seen(
        clip_id=clip.clip_id,
        patient_id=clip.patient_id,
        frames_KHW=small.frames_TCHW[:_MOST_FRAMES, 0],
        view=clip.view,
        kind=clip.kind,
        split=None,
        seconds=seconds,
        frame_rate_hz=rate_hz,
        labels=dict(clip.labels),
        findings=tuple(text for odd, text in _FINDINGS if odd(clip, seconds)),
    )
    return seen, fingerprint(clip), fingerprint(clip, whole_picture=True)


def _loses(clip: Clip, seconds: float | None) -> bool:
    outside = (clip.lit_outside or 0.0) if len(clip.frames_TCHW) > 1 else 0.0
    if clip.mask_THW is not None:
        traced_THW = (clip.mask_THW != NOT_ANNOTATED) & (clip.mask_THW != BACKGROUND)
        outside = max(outside, float(traced_THW[:, ~clip.sector_HW].sum() / max(1, traced_THW.sum())))
    return outside > LOST


_FINDINGS: tuple[tuple[Callable[[Clip, float | None], bool], str], ...] = (
    (lambda clip, seconds: len(clip.frames_TCHW) == 1, "a still"),
    (lambda clip, seconds: len(clip.frames_TCHW) > 1 and clip.frame_rate_hz is None, "frame rate unknown"),
    (lambda clip, seconds: seconds is not None and seconds < _SHORT_S, "shorter than a beat"),
    (lambda clip, seconds: clip.view is None, "view unknown"),
    (lambda clip, seconds: clip.dropped_frames > 0, "pages without echo left out"),
    (_loses, "the sector leaves much out"),
)


def _with_copies(
    found: Mapping[str, tuple[Seen, Fingerprint, Fingerprint]], twice: set[str], processes: int
) -> list[Seen]:
    """Notes which clips show a recording that another one shows."""
    names = list(found)
    pairs = find_copies(
        [one for _, one, _ in found.values()], [other for _, _, other in found.values()], processes=processes
    )
    alike = {names[place] for pair in pairs for place in (pair.first, pair.second)} | twice
    return [
        replace(seen, findings=(*seen.findings, "the same recording as another clip")) if name in alike else seen
        for name, (seen, _, _) in found.items()
    ]
