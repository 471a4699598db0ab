"""Where a clip shows echo: how much each pixel changes, and how bright it is on average, as maps of a fan to be found.

A scanner's screen holds one thing that changes all over: the echo. Names and depth marks stand still. Single frames
change for other reasons (a codec's noise, a cursor, a trace that sweeps by), so the range of a pixel leaves out its
highest and lowest tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Echo = npt.NDArray[np.float32]

# Frames looked at, evenly spread; from _ROBUST on the range leaves out tenths.
_FRAMES, _ROBUST = 24, 8
# Grey levels by which an echo changes, or differs from the background on average: sought in this order. Screens differ
# in gain and in codec noise, and one level often shows an edge that the others blur. A low mean shows dark tissue, and
# a codec's blocks spread change over the edge.
_LEVELS = (("mean", 8), ("change", 8), ("mean", 16), ("change", 16), ("change", 4))
# A frame's brightest shows the dimmest rim of an echo; only to complete a fan that is found.
_DIMMEST, _DIM, _BRIGHT, _CHANGES = 8, 4, 32, 8
# Grey levels within which a codec keeps one ink, up to which nothing is there, and of the dimmest ink; parts of the
# frames in which a pixel of a digit that changes shows nothing, and nothing or its ink.
ONE_GREY, _GONE, _INK, _PART_GONE, _EITHER = 14, 10, 56, 0.15, 0.65
# Pixels of the shorter side that a fan is sought on: an edge is no sharper than the speckle that shows it.
_WORKING_PIXELS = 160


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Maps (H, W) of the part [0, 1] of each cell, `step` x `step` pixels of the screen, that shows echo.

    maps: by several levels. dimmest: by the most sensitive one. dim: by a low mean, which a codec's noise at an edge
    does not reach. bright: by a level at which words are. change: by change alone, which words and marks do not show.
    flickers: the grey level of what is there or not, as digits that change are and an echo is not; else 0.
    """

    maps: tuple[Echo, ...]
    dimmest: Echo
    dim: Echo
    bright: Echo
    change: Echo
    flickers: Echo
    step: int
    is_still: bool

    def within(self, rows: slice, columns: slice) -> Evidence:
        """A part of the screen, or the same turned over."""
        return self._each(lambda map_HW: np.ascontiguousarray(map_HW[rows, columns]))

    def without(self, cells_HW: npt.NDArray[np.bool_]) -> Evidence:
        """The same with nothing to be seen in some cells."""
        return self._each(lambda map_HW: np.where(cells_HW, np.float32(0), map_HW))

    def _each(self, changed: Callable[[Echo], Echo]) -> Evidence:
        return replace(
            self,
            maps=tuple(map(changed, self.maps)),
            dimmest=changed(self.dimmest),
            dim=changed(self.dim),
            bright=changed(self.bright),
            change=changed(self.change),
            flickers=changed(self.flickers),
        )


def looked_at(frames: int) -> npt.NDArray[np.int64]:
    """The numbers of the frames that are enough to see where a clip of so many frames shows echo."""
    return np.unique(np.linspace(0, frames - 1, min(frames, _FRAMES)).round().astype(np.int64))


def evidence_of(grey_THW: Grey) -> Evidence:
    """The maps of some frames of a cine; of a still, its brightness alone at the same levels."""
    is_still = len(grey_THW) == 1
    mean_HW = grey_THW.mean(axis=0, dtype=np.float32)
    ground = background(mean_HW)
    bright_HW = _differs(grey_THW.max(axis=0), ground)
    kinds = {"mean": np.abs(mean_HW - ground), "change": bright_HW if is_still else robust_range(grey_THW)}
    step = max(1, min(mean_HW.shape) // _WORKING_PIXELS)
    # One pixel of each cell: a mean would blur an ink.
    height, width = (size // step for size in mean_HW.shape)
    thin_THW = grey_THW[:, step // 2 :: step, step // 2 :: step][:, :height, :width]
    levels = [level for level in _LEVELS if level[0] == "change" or not is_still]
    return Evidence(
        maps=tuple(_cells(kinds[kind] >= level, step) for kind, level in levels),
        dimmest=_cells(bright_HW >= _DIMMEST, step),
        dim=_cells(kinds["mean"] >= _DIM, step),
        bright=_cells(bright_HW >= _BRIGHT, step),
        change=_cells(kinds["change"] >= _CHANGES, step),
        flickers=_flickers(_differs(thin_THW, ground)),
        step=step,
        is_still=is_still,
    )


def robust_range(frames_THW: Grey) -> Grey:
    """By how many grey levels each pixel changes, its highest and lowest tenth of the frames left out."""
    left_out = round(len(frames_THW) / 10) if len(frames_THW) >= _ROBUST else 0
    highest = np.zeros((left_out + 1, *frames_THW.shape[1:]), np.uint8)
    lowest = np.full_like(highest, 255)
    for frame_HW in frames_THW:
        high = low = frame_HW
        # Each frame is sorted into the few highest and lowest so far.
        for rank in range(left_out + 1):
            highest[rank], high = np.maximum(highest[rank], high), np.minimum(highest[rank], high)
            lowest[rank], low = np.minimum(lowest[rank], low), np.maximum(lowest[rank], low)
    return highest[-1] - lowest[-1]


def _flickers(shown_THW: Grey) -> Echo:
    """How much what is there or not differs from the background; 0 of other pixels, and of few frames."""
    if len(shown_THW) < _ROBUST:
        return np.zeros(shown_THW.shape[1:], np.float32)
    peak_HW = shown_THW.max(axis=0)
    at_peak_HW = (peak_HW - shown_THW <= ONE_GREY).mean(axis=0)
    gone_HW = (shown_THW < _GONE).mean(axis=0)
    two_HW = (gone_HW >= _PART_GONE) & (gone_HW + at_peak_HW >= _EITHER)
    return np.where(two_HW & (peak_HW >= _INK), peak_HW, 0).astype(np.float32)


def background(image_HW: npt.NDArray[np.generic]) -> int:
    """The commonest grey level: the empty screen's, black or not."""
    return int(np.bincount(np.asarray(image_HW).astype(np.uint8).ravel(), minlength=256).argmax())


def _differs(image_HW: Grey, ground: int) -> Grey:
    return np.maximum(image_HW, ground) - np.minimum(image_HW, ground)


def _cells(shown_HW: npt.NDArray[np.bool_], step: int) -> Echo:
    """Means over step x step pixels; what is left over at the right and the bottom is left out."""
    height, width = (size // step for size in shown_HW.shape)
    cells = shown_HW[: height * step, : width * step].reshape(height, step, width, step)
    return cells.mean(axis=(1, 3), dtype=np.float32)
