"""The sets' own masks and traces, put on a clip as read. Every class here is picklable: it runs in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.draw

from echofm.clip import BACKGROUND, LEFT_VENTRICLE, NOT_ANNOTATED, Clip

Polygons = Mapping[int, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class LeftVentricleTraces:
    """Left-ventricle outlines of a few frames: frame index (0-based) -> polygon (points, 2) as (column, row) pixels.

    table: the file that they were read from.
    """

    polygons: Polygons
    table: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The table."""
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
        """The truth file."""
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
        """Of all steps."""
        return tuple(path for step in self.steps for path in getattr(step, "paths", ()))

    def __call__(self, clip: Clip) -> Clip:
        """The clip after each step."""
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
