"""The closest pairs, side by side: a synthetic clip's frames above those of the training clip that it is nearest to.

T frames, K moments shown, H rows, W columns.
"""

from __future__ import annotations

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
_SIZE, _COARSE = 112, 8
# Lower than most cameras of the heart, so that eight frames span about a beat.
_RATE_HZ = 25.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Strip:
    """One pair: K frames of each, taken at the same times, and in words its ids (hashes), similarity and decision."""

    synthetic_KHW: Frames
    training_KHW: Frames
    caption: str


def closest_pairs(samples: pd.DataFrame, level: Level, *, most: int) -> pd.DataFrame:
    """The rows with the highest score at a level, of equals the first; those without a neighbour are left out."""
    samples = samples[samples[f"{level}_neighbour"] != ""]
    return samples.sort_values([f"{level}_score", "row"], ascending=[False, True]).head(most)


def strips(pairs: pd.DataFrame, level: Level, *, synthetic: Videos, train: Videos) -> list[Strip]:
    """Read the pairs' clips and bring them to one time; a pair of which one cannot be read is left out."""
    ours = list(synthetic.read([(str(each), None) for each in pairs["clip_id"]], _shown))
    theirs = list(train.read([(str(each), None) for each in pairs[f"{level}_neighbour"]], _shown))
    found: list[Strip] = []
    for (_, row), own, other in zip(pairs.iterrows(), ours, theirs):
        if isinstance(own, UnreadableFile) or isinstance(other, UnreadableFile):
            continue
        own_KHW, other_KHW, step_s = together(own[0], other[0], own[1] if own[1] == other[1] else None)
        caption = (
            f"{len(found) + 1}. similarity {row[f'{level}_score']:.4f}, q {row['q']:.2g}, "
            f"{'to remove' if row['removed'] else 'kept'}: synthetic `{row['clip_id']}` above, training "
            f"`{row[f'{level}_neighbour']}` of patient `{row[f'{level}_neighbour_patient']}` below"
            + ("" if step_s is None else f"; frames {step_s:.2f} s apart")
        )
        found.append(Strip(synthetic_KHW=own_KHW, training_KHW=other_KHW, caption=caption))
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
