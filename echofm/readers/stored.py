"""Stored: a file's frames as it stores them, to which a data set's own truth refers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from echofm.clip import Clip
from echofm.readers.square import stretched_mask


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file's frames before any was left out and its pixels were made square; `first` is the first that is left."""

    frames: int
    height: int
    width: int
    first: int

    def with_truth(self, clip: Clip, add_truth: Callable[[Clip], Clip]) -> Clip:
        """The truth on a clip, put on a blank one as stored where its frames or the shape of its pixels changed."""
        if len(clip.frames_TCHW) == self.frames and clip.sector_HW.shape == (self.height, self.width):
            return add_truth(clip)
        blank_TCHW = np.broadcast_to(np.zeros((), np.uint8), (self.frames, 1, self.height, self.width))
        blank = clip.replace(
            frames_TCHW=blank_TCHW,
            sector_HW=np.ones((self.height, self.width), bool),
            frame_time_s=np.arange(self.frames) if clip.frame_time_s is not None else None,
            fan=None,
        )
        known, kept = add_truth(blank), slice(self.first, self.first + len(clip.frames_TCHW))
        time_s = clip.frame_time_s
        if known.frame_time_s is not None and known.frame_time_s is not blank.frame_time_s:
            time_s = known.frame_time_s[kept] - known.frame_time_s[self.first]
        return known.replace(
            frames_TCHW=clip.frames_TCHW,
            sector_HW=clip.sector_HW,
            fan=clip.fan,
            frame_time_s=time_s,
            phase_T=None if known.phase_T is None else known.phase_T[kept],
            mask_THW=None if known.mask_THW is None else stretched_mask(known.mask_THW[kept], *clip.sector_HW.shape),
        )
