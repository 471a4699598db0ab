"""Masks that a set keeps in files of their own beside the images (CAMUS, CardiacNet)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from echofm.clip import Clip
from echofm.errors import UnreadableFile
from echofm.ids import file_id
from echofm.readers.datasets.truth import NOT_ANNOTATED


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """Masks from NIfTI files (axes X, Y, T) or MetaImage files.

    files: frame index (0-based) -> the file with that frame's mask; None -> a file with every frame.
    classes: the set's class -> ours (`Clip.mask_THW`); a class that is not in it counts as not annotated.
    sparse: a frame without a single labelled pixel was not annotated, rather than empty.
    frame_rate_hz: the set's own word on the frame rate, which goes before what the image file says; None: no word.
    """

    files: Mapping[int | None, Path]
    classes: Mapping[int, int]
    sparse: bool = False
    frame_rate_hz: float | None = None

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
            mask_THW[~(mask_THW % NOT_ANNOTATED).any(axis=(1, 2))] = NOT_ANNOTATED
        if self.frame_rate_hz is not None and self.frame_rate_hz > 0:
            clip = clip.replace(frame_time_s=np.arange(frames) / self.frame_rate_hz)
        return clip if (mask_THW == NOT_ANNOTATED).all() else clip.replace(mask_THW=mask_THW)

    def _ours(self, volume_THW: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        table = np.full(256, NOT_ANNOTATED, np.uint8)
        table[list(self.classes)] = list(self.classes.values())
        inside = (volume_THW >= 0) & (volume_THW < len(table))
        return np.where(inside, table[np.where(inside, volume_THW, 0)], NOT_ANNOTATED).astype(np.uint8)


def _volume(path: Path, shape_THW: tuple[int, int, int]) -> npt.NDArray[np.integer]:
    """A mask file's classes, of exactly this shape; the shape is compared before any pixel is read."""
    import nibabel

    try:
        image = nibabel.load(path)
        found = tuple(size for size in image.shape if size != 1)
        if found != tuple(size for size in shape_THW[::-1] if size != 1):
            raise UnreadableFile(file_id(path), "this mask has another size than its image; download both again")
        volume = np.asanyarray(image.dataobj).reshape(shape_THW[::-1])
    except (
        nibabel.filebasedimages.ImageFileError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise UnreadableFile(file_id(path), "this mask file is damaged; download it again") from None
    return np.rint(np.nan_to_num(volume)).astype(np.int64).transpose(2, 1, 0)
