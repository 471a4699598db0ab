"""Masks that a set keeps in files of their own beside the images (CAMUS, CardiacNet, CardiacUDA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.clip import NOT_ANNOTATED, Clip
from echofm.errors import UnreadableFile
from echofm.ids import file_id
from echofm.readers.datasets.contours import filled_volume
from echofm.readers.limits import Limits
from echofm.readers.metaimage import decode_metaimage
from echofm.readers.nifti import read_volume
from echofm.readers.opening import open_plain
from echofm.readers.refused import Refused


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """Masks from NIfTI or MetaImage files (axes X, Y, T).

    files: frame index (0-based) -> the file with that frame's mask; None -> a file with every frame.
    classes: the set's class -> ours (`Clip.mask_THW`); a class that is not in it counts as not annotated.
    sparse: a frame without a single labelled pixel was not annotated, rather than empty.
    contours: the classes are drawn as lines, to be filled.
    frame_rate_hz: the set's own word on the frame rate, which goes before what the image file says; None: no word.
    """

    files: Mapping[int | None, Path]
    classes: Mapping[int, int]
    sparse: bool = False
    contours: bool = False
    frame_rate_hz: float | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The mask files."""
        return tuple(self.files.values())

    def __call__(self, clip: Clip) -> Clip:
        """The clip with mask_THW and frame times. Raises UnreadableFile on a mask that is damaged or does not fit."""
        frames, _, height, width = clip.frames_TCHW.shape
        mask_THW = np.full((frames, height, width), NOT_ANNOTATED, np.uint8)
        for frame, path in self.files.items():
            if frame is None:
                mask_THW = self._ours(_volume(path, (frames, height, width)))
            elif 0 <= frame < frames:
                mask_THW[frame] = self._ours(_volume(path, (1, height, width)))[0]
        if self.sparse:
            empty = ~((mask_THW > 0) & (mask_THW != NOT_ANNOTATED)).any(axis=(1, 2))
            mask_THW[empty] = NOT_ANNOTATED
        if self.frame_rate_hz is not None and self.frame_rate_hz > 0:
            clip = clip.replace(frame_time_s=np.arange(frames) / self.frame_rate_hz)
        return clip if (mask_THW == NOT_ANNOTATED).all() else clip.replace(mask_THW=mask_THW)

    def _ours(self, volume_THW: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        table = np.full(256, NOT_ANNOTATED, np.uint8)
        table[list(self.classes)] = list(self.classes.values())
        classes = np.rint(np.nan_to_num(volume_THW, nan=-1.0, posinf=-1.0, neginf=-1.0)).astype(np.int64)
        if self.contours:
            classes = filled_volume(classes)
        known = (classes >= 0) & (classes < len(table))
        return np.where(known, table[np.where(known, classes, 0)], NOT_ANNOTATED)


def _volume(path: Path, shape_THW: tuple[int, int, int]) -> npt.NDArray[Any]:
    """A mask file's values, of exactly this shape. What it unpacks to is capped before it is read."""
    # A mask may be stored in 64 bits a pixel; anything larger is not this clip's.
    limits = Limits(max_clip_mb=8e-6 * int(np.prod(shape_THW)) + 1)
    try:
        with open_plain(path) as source:
            if path.suffix.lower() == ".mhd":
                volume = decode_metaimage(source, path=path, channels=1, limits=limits).frames_TCHW[:, 0]
            else:
                volume = read_volume(source, limits=limits).values_THW
    except Refused as refused:
        raise UnreadableFile(file_id(path), f"this mask cannot be read: {refused.reason}") from None
    if volume.shape != shape_THW:
        raise UnreadableFile(file_id(path), "this mask has another size than its image; download both again")
    return volume
