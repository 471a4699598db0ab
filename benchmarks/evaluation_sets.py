"""Sets whose faults are known: what was done to each, and which panels of its card must fail for it.

T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echofm.clip import FRAME_FIELDS, Clip
from echofm.ids import IdKey
from echofm.readers.source import Row
from echofm.shards.read import ShardSet
from echofm.shards.write import write_shards

KEY = IdKey(b"names of sets whose faults are known")
STRENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)
# What the table of panels shows; the others are for the ranking.
SHOWN_STRENGTH = 0.4
_LATER, _BRIGHTER = 5, 4
# Strong noise hides the motion too.
_NOISE = ("fidelity", "control", "utility")

Change = Callable[[Clip, np.random.Generator], Clip]


@dataclass(frozen=True, kw_only=True)
class Made:
    """One set. clips: (a clip, how it is changed), in order. fails: panels of which at least the first must fail, and
    the others rightly may."""

    clips: Sequence[tuple[Clip, Change]]
    fails: tuple[str, ...] = ()


def as_it_is(clip: Clip, rng: np.random.Generator) -> Clip:
    """The clip."""
    return clip


def speckled(strength: float) -> Change:
    """Every pixel times 1 + strength x a normal draw, anew in each frame."""

    def change(clip: Clip, rng: np.random.Generator) -> Clip:
        factor = 1 + strength * rng.standard_normal(clip.frames_TCHW.shape, np.float32)
        return clip.replace(frames_TCHW=np.clip(np.rint(clip.frames_TCHW * factor), 0, 255).astype(np.uint8))

    return change


def shuffled(clip: Clip, rng: np.random.Generator) -> Clip:
    """Its frames in a drawn order."""
    return clip.replace(frames_TCHW=clip.frames_TCHW[rng.permutation(len(clip.frames_TCHW))])


def copied(clip: Clip, rng: np.random.Generator) -> Clip:
    """Begun some frames later, a little brighter or darker: what a generator that memorises would give."""
    later = int(rng.integers(1, _LATER + 1))
    frames = clip.frames_TCHW[later:].astype(np.int16) + int(rng.integers(-_BRIGHTER, _BRIGHTER + 1))
    time_s = None if clip.frame_time_s is None else clip.frame_time_s[later:] - clip.frame_time_s[later]
    return clip.replace(frames_TCHW=np.clip(frames, 0, 255).astype(np.uint8), frame_time_s=time_s)


def noised(new: ShardSet, *, clips: int) -> dict[str, Made]:
    """By name, the same clips under every strength of noise."""
    fresh = _clips(new)[:clips]
    return {name_of(each): Made(clips=[(clip, speckled(each)) for clip in fresh], fails=_NOISE) for each in STRENGTHS}


def sets_of(train: ShardSet, new: ShardSet, *, clips: int) -> dict[str, Made]:
    """By name, of so many clips each."""
    fresh, known = _clips(new)[:clips], _clips(train)
    count = len(fresh)
    rng = np.random.default_rng(0)
    copies = [known[index] for index in rng.permutation(np.resize(np.arange(len(known)), count))]
    order = rng.permutation(count)
    others = [{"ef_percent": fresh[other].labels["ef_percent"]} for other in order]
    requests = [clip.replace(labels={**clip.labels, **ef}) for clip, ef in zip(fresh, others)]
    # A generator that has collapsed shows one patient, whatever it is asked for.
    one = [fresh[0].replace(labels=clip.labels, view=clip.view) for clip in fresh]
    half = [(clip, copied if number % 2 else as_it_is) for number, clip in enumerate(_in_turn(fresh, copies))]
    sets = {
        "new patients": Made(clips=[(clip, as_it_is) for clip in fresh]),
        # The heart rate is gone with the order, and motion is no measure of the ejection fraction any more.
        "frames shuffled": Made(clips=[(clip, shuffled) for clip in fresh], fails=("fidelity", "control", "utility")),
        "EF shuffled": Made(clips=[(clip, as_it_is) for clip in requests], fails=("control", "utility")),
        "one patient": Made(
            clips=[(clip, copied) for clip in one], fails=("diversity", "fidelity", "control", "utility")
        ),
        "copied": Made(clips=[(clip, copied) for clip in copies], fails=("privacy",)),
        "half copied": Made(clips=half, fails=("privacy",)),
    }
    return sets | {name_of(SHOWN_STRENGTH): noised(new, clips=clips)[name_of(SHOWN_STRENGTH)]}


def name_of(strength: float) -> str:
    """Of a set with speckle noise."""
    return f"noise {strength:g}"


def write_set(made: Made, folder: Path, *, size: int) -> Path:
    """As shards without splits, every clip of its own patient; what is there already stays."""
    if not folder.exists():
        read = _Reader(made.clips, size)
        write_shards(_Rows(len(made.clips)), folder, size=size, frame_rate_hz=None, split_by="none", key=KEY, read=read)
    return folder


@dataclass(frozen=True)
class _Rows:
    count: int
    name: str = "phantom"

    def rows(self) -> Iterator[Row]:
        for number in range(self.count):
            yield Row(path=Path(f"{number:06d}"), patient=f"{number:06d}")


@dataclass(frozen=True)
class _Reader:
    clips: Sequence[tuple[Clip, Change]]
    size: int

    def __call__(self, row: Row) -> Clip:
        clip, change = self.clips[int(row.path.name)]
        changed = change(clip, np.random.default_rng([1, int(row.path.name)]))
        digest = hashlib.sha256(row.path.name.encode() + changed.frames_TCHW.tobytes()).digest()
        return changed.replace(
            frames_TCHW=changed.frames_TCHW * changed.sector_HW,
            clip_id=KEY.clip(digest),
            patient_id=KEY.patient(row.patient),
            study_id=None,
        )


def _clips(shards: ShardSet) -> list[Clip]:
    """Without what is true of single frames, which a change would have to follow."""
    bare = dict.fromkeys(FRAME_FIELDS[1:])
    return [shards.clip(number).replace(**bare) for number in range(len(shards))]


def _in_turn(first: Sequence[Clip], second: Sequence[Clip]) -> list[Clip]:
    return [(first, second)[number % 2][number] for number in range(len(first))]
