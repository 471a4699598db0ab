"""Clips on a page: frames asked for by a clip's id, a few of them, small.

T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from echofm.clip import Clip
from echofm.embed.inputs import FileInput, Item
from echofm.embed.set_aside import Position
from echofm.shards.read import ShardSet

Frames = npt.NDArray[np.uint8]
# (T, C, H, W) of a clip, None for a clip that is not at hand.
FramesOf = Callable[[str], "Frames | None"]
_LARGEST_SIDE = 160


class ShardFrames:
    """Frames and their times from a folder of shards, or one already open; called with a clip's id.

    Raises EchofmError where it is no such folder.
    """

    def __init__(self, folder: str | Path | ShardSet) -> None:
        self._shards = folder if isinstance(folder, ShardSet) else ShardSet.open(folder, show_progress=False)
        self._places = {record.clip_id: place for place, record in enumerate(self._shards.records)}

    def __call__(self, clip_id: str) -> Frames | None:
        """(T, C, H, W); None for a clip that is not there."""
        place = self._places.get(clip_id)
        return None if place is None else self._shards.clip(place).frames_TCHW

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        """(T,) seconds; None where unknown."""
        place = self._places.get(clip_id)
        return None if place is None else self._shards.frame_time_s(place)


class FileFrames:
    """Frames of files under an encoder's contract; called with a clip's id. positions: where in the input each is."""

    def __init__(self, files: FileInput, positions: Mapping[str, Position]) -> None:
        self._files, self._places = files, positions
        self._held: dict[str, Clip | None] = {}

    def __call__(self, clip_id: str) -> Frames | None:
        """(T, C, H, W); None for a clip that is not there or cannot be read any more."""
        clip = self._clip(clip_id)
        return None if clip is None else clip.frames_TCHW

    def time_s(self, clip_id: str) -> npt.NDArray[np.float64] | None:
        """(T,) seconds; None where unknown."""
        clip = self._clip(clip_id)
        return None if clip is None else clip.frame_time_s

    def hold(self, clip_ids: Sequence[str]) -> None:
        """Read clips at once and keep them until others are held: readers take longer to start than to read."""
        there = [clip_id for clip_id in dict.fromkeys(clip_ids) if clip_id in self._places]
        found = self._files.read([self._places[clip_id][0] for clip_id in there])
        self._held = {
            clip_id: each.all[self._places[clip_id][1]].clip if isinstance(each, Item) else None
            for clip_id, each in zip(there, found)
        }

    def _clip(self, clip_id: str) -> Clip | None:
        if clip_id not in self._held:
            self.hold([clip_id])
        return self._held.get(clip_id)


def read_ahead(frames_of: FramesOf, clip_ids: Sequence[str]) -> None:
    """Tell which clips will be asked for, where that spares time."""
    if isinstance(frames_of, FileFrames):
        frames_of.hold(clip_ids)


def evenly(frames_TCHW: Frames, count: int) -> Frames:
    """`count` frames from the first to the last, a short clip's repeated: (count, H, W) or (count, H, W, 3)."""
    return shown(frames_TCHW[np.linspace(0, len(frames_TCHW) - 1, count).round().astype(int)])


def shown(frames_TCHW: Frames) -> Frames:
    """As a film strip takes them, grey (T, H, W) or colour (T, H, W, 3), no side above 160 pixels."""
    frames = frames_TCHW[:, 0] if frames_TCHW.shape[1] == 1 else frames_TCHW.transpose(0, 2, 3, 1)
    height, width = frames.shape[1:3]
    if max(height, width) <= _LARGEST_SIDE:
        return frames
    scale = _LARGEST_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [Image.fromarray(np.ascontiguousarray(each)).resize(size, Image.Resampling.BILINEAR) for each in frames]
    return np.stack([np.asarray(each) for each in small])
