"""The sets' own masks and traces, put on a clip as read. Every class here is picklable: it runs in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.draw
from scipy.ndimage import binary_erosion, binary_fill_holes

from echofm.clip import BACKGROUND, LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.errors import UnreadableFile
from echofm.ids import file_id
from echofm.readers.limits import Limits
from echofm.readers.metaimage import decode_metaimage
from echofm.readers.nifti import read_volume
from echofm.readers.opening import open_plain
from echofm.readers.refused import Refused

Polygons = Mapping[int, npt.NDArray[np.float32]]

Mask = npt.NDArray[np.bool_]
# Of a region, not a line, at least this share is left when two pixels are taken off all round.
_SOLID = 0.25
# A closed line's inside is more than this part of the line.
_CLOSED = 0.3


@dataclass(frozen=True, eq=False)
class LeftVentricleTraces:
    """Left-ventricle outlines of a few frames: frame index (0-based) -> polygon (points, 2) as (column, row) pixels.

    table: the file that they were read from.
    """

    polygons: Polygons
    table: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.table,)

    def __call__(self, clip: Clip) -> Clip:
        """The clip with mask_THW: 1 inside the outline, 0 outside, 255 on every frame that nobody traced.

        Frames that the file does not have (a cut download) and outlines of fewer than three points are left out.
        """
        frames, _, height, width = clip.frames_TCHW.shape
        mask_THW = np.full((frames, height, width), NOT_ANNOTATED, np.uint8)
        for frame, polygon in self.polygons.items():
            if 0 <= frame < frames and len(polygon) >= 3:
                mask_THW[frame] = BACKGROUND
                # Whole pixels first, as the authors do: else each mask is 3 to 4 % smaller than theirs.
                columns_P, rows_P = np.rint(polygon).astype(int).T
                rows, columns = skimage.draw.polygon(rows_P, columns_P, (height, width))
                mask_THW[frame, rows, columns] = LEFT_VENTRICLE
        return clip if (mask_THW == NOT_ANNOTATED).all() else clip.replace(mask_THW=mask_THW)


@dataclass(frozen=True)
class PhantomTruth:
    """The phantom's truth file: dense masks and the phase of every frame."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def __call__(self, clip: Clip) -> Clip:
        from echofm.phantom.truth import add_truth

        return add_truth(clip, self.path)


@dataclass(frozen=True)
class InTurn:
    """Several sources of truth, the later ones having the last word."""

    steps: tuple[Callable[[Clip], Clip], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for step in self.steps for path in getattr(step, "paths", ()))

    def __call__(self, clip: Clip) -> Clip:
        for step in self.steps:
            clip = step(clip)
        return clip


def is_phantom(root: Path) -> bool:
    """Whether a folder was written by `echofm phantom`."""
    return (root / "phantom.json").is_file()


def phantom_truth(root: Path, stem: str) -> Callable[[Clip], Clip] | None:
    """The truth beside a generated clip, `truth/STEM.npz` under a folder that holds `phantom.json`; else None."""
    path = root / "truth" / f"{stem}.npz"
    return PhantomTruth(path) if is_phantom(root) and path.is_file() else None


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


def filled(line_HW: Mask) -> Mask:
    """The region inside a line of pixels, the line included; a region stays as it is.

    A line with gaps is closed along its points, sorted by their angle around their middle: chambers of the heart are
    seen whole from there.
    """
    inside_HW = binary_fill_holes(line_HW)
    line = int(line_HW.sum())
    if inside_HW.sum() - line > _CLOSED * line or binary_erosion(line_HW, iterations=2).sum() >= _SOLID * line:
        return inside_HW
    rows_P, columns_P = np.nonzero(line_HW)
    if len(rows_P) < 3:
        return line_HW
    order = np.argsort(np.arctan2(rows_P - rows_P.mean(), columns_P - columns_P.mean()))
    return line_HW | skimage.draw.polygon2mask(line_HW.shape, np.stack([rows_P, columns_P], 1)[order])


def filled_volume(classes_THW: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Every class of every frame, filled; where two meet, the one of the higher number stays."""
    done_THW = np.zeros_like(classes_THW)
    for frame, drawn_HW in zip(done_THW, classes_THW):
        for value in np.unique(drawn_HW[drawn_HW > 0]):
            frame[filled(drawn_HW == value)] = value
    return done_THW
