"""Pairs side by side: a synthetic clip's frames above those of the real clip that it shows or comes closest to.

T frames, K frames shown, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from skimage.measure import block_reduce

from echofm.clip import Clip
from echofm.conform import conform
from echofm.embed.videos import Videos
from echofm.errors import UnreadableFile
from synth.audit.settings import Level

Frames = npt.NDArray[np.uint8]
FRAMES = 8
# Beyond these a page is too large for a browser; samples.parquet has them all.
MOST_REMOVED = 400
_SIZE, _COARSE = 112, 8
# Lower than most cameras of the heart, so that eight frames span about a beat.
_RATE_HZ = 25.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic clip and the real one beside which it is shown. of: that one's set. why: in words. removed: whether
    the clip is to be removed. patient: of the real clip, "" where not known."""

    clip_id: str
    source_id: str
    of: str
    why: str
    removed: bool
    patient: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strip:
    """One pair: K frames of each, taken at the same times, and in words its ids (hashes), similarity and decision."""

    synthetic_KHW: Frames
    real_KHW: Frames
    of: str
    caption: str
    removed: bool


def pairs(samples: pd.DataFrame, level: Level, *, kept: int, holdout: Iterable[str] = ()) -> list[Pair]:
    """Every clip to be removed beside its source, the closest first, then the closest `kept` of those that stay.

    holdout: ids of the held-out clips, which a duplicate may show.
    """
    held_out = set(holdout)
    ordered = samples.sort_values([f"{level}_score", "row"], ascending=[False, True])
    removed = ordered[ordered["removed"]].head(MOST_REMOVED)
    staying = ordered[~ordered["removed"] & (ordered[f"{level}_neighbour"] != "")].head(kept)
    return [
        _pair(row, level, held_out)
        for each in (removed, staying)
        for _, row in each.iterrows()
        if row["duplicate_of"] or row[f"{level}_neighbour"]
    ]


def _pair(row: pd.Series, level: Level, held_out: set[str]) -> Pair:
    copied, nearest = str(row["duplicate_of"]), str(row[f"{level}_neighbour"])
    source = copied or nearest
    near = f"similarity {row[f'{level}_score']:.4f}, q {row['q']:.2g}"
    return Pair(
        clip_id=str(row["clip_id"]),
        source_id=source,
        of="held-out" if source in held_out else "training",
        why=f"the very recording; {near}" if copied else near,
        removed=bool(row["removed"]),
        patient=str(row[f"{level}_neighbour_patient"]) if source == nearest else "",
    )


def strips(wanted: Sequence[Pair], videos: Mapping[str, Videos]) -> list[Strip]:
    """Read the pairs' clips and bring them to one time; a pair of which one cannot be read is left out.

    videos: by set, "synthetic" and those of the sources.
    """
    wanted = [each for each in wanted if each.of in videos]
    ours = list(videos["synthetic"].read([(each.clip_id, None) for each in wanted], _shown))
    real: dict[int, tuple[Frames, float | None] | UnreadableFile] = {}
    for of in dict.fromkeys(each.of for each in wanted):
        places = [place for place, each in enumerate(wanted) if each.of == of]
        read = videos[of].read([(wanted[place].source_id, None) for place in places], _shown)
        real |= dict(zip(places, read))
    found: list[Strip] = []
    for place, (each, own) in enumerate(zip(wanted, ours)):
        other = real[place]
        if isinstance(own, UnreadableFile) or isinstance(other, UnreadableFile):
            continue
        own_KHW, other_KHW, step_s = together(own[0], other[0], own[1] if own[1] == other[1] else None)
        caption = (
            f"{len(found) + 1}. {'to remove' if each.removed else 'kept'}: {each.why}; synthetic `{each.clip_id}` "
            f"above, {each.of} `{each.source_id}`"
            + (f" of patient `{each.patient}`" if each.patient else "")
            + " below"
            + ("" if step_s is None else f"; frames {step_s:.2f} s apart")
        )
        found.append(
            Strip(synthetic_KHW=own_KHW, real_KHW=other_KHW, of=each.of, caption=caption, removed=each.removed)
        )
    return found


def _shown(clip: Clip, _: object) -> tuple[Frames, float | None]:
    """Grey frames at the size shown, and seconds between them; None where the clip does not tell."""
    small = conform(clip, size=_SIZE, frame_rate_hz=_RATE_HZ, channels=1)
    return small.frames_TCHW[:, 0], None if small.frame_time_s is None else 1 / _RATE_HZ


def together(own_THW: Frames, other_THW: Frames, step_s: float | None) -> tuple[Frames, Frames, float | None]:
    """K frames of each at equal distances, the other begun where it looks most like the first.

    Likeness is the mean correlation of the frames, coarsened. step_s: seconds between frames, if alike in both;
    returned times the frames skipped.
    """
    shorter = min(len(own_THW), len(other_THW))
    step = max(1, shorter // (2 * FRAMES))
    offsets = np.arange(FRAMES) * step
    own_KHW = own_THW[offsets % len(own_THW)]
    wanted = _coarse(own_KHW)
    stored = _coarse(other_THW)
    starts = range(max(1, len(other_THW) - int(offsets[-1])))
    likeness = [float((wanted * stored[(start + offsets) % len(other_THW)]).sum()) for start in starts]
    other_KHW = other_THW[(int(np.argmax(likeness)) + offsets) % len(other_THW)]
    return own_KHW, other_KHW, None if step_s is None else step * step_s


def _coarse(frames_THW: Frames) -> npt.NDArray[np.float32]:
    """Each frame pooled, its mean removed, at unit length."""
    pooled = block_reduce(frames_THW.astype(np.float32), (1, _COARSE, _COARSE), np.mean).reshape(len(frames_THW), -1)
    pooled -= pooled.mean(1, keepdims=True)
    return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-6)
