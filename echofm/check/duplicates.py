"""Which clips are the same recording: candidates by nearest neighbours, each then aligned and compared.

Candidates come from two searches. By shape: a copy may be cropped, so every clip is indexed as several sub-windows of
its sector, and a copy's whole picture finds the sub-window that it was cut to. By motion: the curve of change over
time, both ways round. From the best sub-window the crop is fitted (translation and scale of each axis, Gauss-Newton as
in Lucas and Kanade, https://www.ri.cmu.edu/pub_files/pub3/baker_simon_2004_1/baker_simon_2004_1.pdf); what decides is
whether the aligned frames share their speckle.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from echofm.check.fingerprint import GRID, Fingerprint, Grids
from echofm.progress import progress_bar

# Ends of a sub-window along one axis, as parts of the sector's bounding box.
_ENDS = ((0.0, 1.0), (0.0, 0.88), (0.12, 1.0), (0.06, 0.94), (0.12, 0.88))
_WINDOWS = np.array([(top, left, bottom, right) for (top, bottom), (left, right) in itertools.product(_ENDS, _ENDS)])
_CELLS = 10
Ends = npt.NDArray[np.float64]
Job = tuple[int, int, Ends]
_NEIGHBOURS = 8
# Cosines below which two clips are no candidates: copies are above, most others are not.
_MIN_ALIKE, _MIN_ALIKE_MOTION = 0.65, 0.75
# From coarse to fine: blur in grid cells, and every how many cells are compared.
_LEVELS = ((2.0, 4), (1.0, 2), (0.5, 2))
_STEPS = 6
_MAX_STEP = 0.05
# Pairs below which starting processes takes longer than comparing.
_WORTH_PROCESSES = 1000
# Least correlation of the fitted shapes at any level; a copy's is far above, and most pairs end here.
_MIN_SHAPE = 0.6
_MIN_OVERLAP = 0.25


@dataclass(frozen=True)
class Pair:
    """Two clips, by place in the list, that show the same recording; correlation of the aligned speckle in [-1, 1]."""

    first: int
    second: int
    correlation: float


def find_copies(
    sector_prints: Sequence[Fingerprint], picture_prints: Sequence[Fingerprint], *, processes: int = 1
) -> list[Pair]:
    """`find_duplicates` by either fingerprint of each clip, of its sector and of its whole picture."""
    best: dict[tuple[int, int], Pair] = {}
    for prints in (sector_prints, picture_prints):
        for pair in find_duplicates(prints, processes=processes):
            known = best.get((pair.first, pair.second), pair)
            best[pair.first, pair.second] = max(known, pair, key=lambda one: one.correlation)
    return sorted(best.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second))


def find_duplicates(
    prints: Sequence[Fingerprint], *, threshold: float = 0.62, neighbours: int = _NEIGHBOURS, processes: int = 1
) -> list[Pair]:
    """Pairs of clips that show the same recording, best first.

    threshold: least correlation of the aligned speckle; docs/datasets.md has the measurements behind it.
    processes: for the comparison of many pairs; the result does not depend on it.
    """
    if len(prints) < 2:
        return []
    windows = np.stack([_descriptors(one) for one in prints])
    jobs = [
        (copy, original, _WINDOWS[int(np.argmax(windows[original] @ windows[copy][0]))])
        for copy, original in sorted(_by_shape(windows, neighbours) | _by_motion(prints, neighbours))
    ]
    del windows
    best: dict[tuple[int, int], float] = {}
    with progress_bar("comparing", len(jobs)) as bar:
        for (copy, original, _), correlation in zip(jobs, _compared(prints, jobs, processes)):
            pair = (min(copy, original), max(copy, original))
            best[pair] = max(correlation, best.get(pair, -1.0))
            bar.advance()
    found = [Pair(*pair, correlation) for pair, correlation in best.items() if correlation >= threshold]
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def _compared(prints: Sequence[Fingerprint], jobs: Sequence[Job], processes: int) -> Iterator[float]:
    """The correlation of each job, in order."""
    if processes == 1 or len(jobs) < _WORTH_PROCESSES:
        yield from (compare(prints[original], prints[copy], window=window) for copy, original, window in jobs)
        return
    context = multiprocessing.get_context("spawn")
    # Each process gets the fingerprints once; a job is then two numbers and a window.
    with context.Pool(processes, initializer=_receive, initargs=(prints,)) as pool:
        yield from pool.imap(_compare_job, jobs, chunksize=64)


_received: Sequence[Fingerprint] = ()


def _receive(prints: Sequence[Fingerprint]) -> None:
    global _received
    _received = prints


def _compare_job(job: Job) -> float:
    copy, original, window = job
    return compare(_received[original], _received[copy], window=window)


def _by_shape(windows: Grids, neighbours: int) -> set[tuple[int, int]]:
    """(copy, original): for each clip the others of which a sub-window looks most like it."""
    _, per_clip, size = windows.shape
    wholes, parts = np.ascontiguousarray(windows[:, 0]), windows.reshape(-1, size)
    likeness, places = faiss.knn(wholes, parts, min(neighbours * 8, len(parts)), metric=faiss.METRIC_INNER_PRODUCT)
    places[likeness < _MIN_ALIKE] = -1
    return {pair for copy, row in enumerate(places) for pair in _others(copy, row // per_clip, neighbours)}


def _by_motion(prints: Sequence[Fingerprint], neighbours: int) -> set[tuple[int, int]]:
    """(copy, original): for each clip the others whose change over time is most alike, forwards or backwards."""
    curves = np.stack([one.motion_M for one in prints])
    index = faiss.IndexFlatIP(curves.shape[1])
    index.add(np.ascontiguousarray(np.stack([curves, curves[:, ::-1]], axis=1).reshape(-1, curves.shape[1])))
    likeness, places = index.search(curves, min(neighbours * 3, 2 * len(curves)))
    places[likeness < _MIN_ALIKE_MOTION] = -1
    return {pair for copy, row in enumerate(places) for pair in _others(copy, row // 2, neighbours)}


def _others(copy: int, found: npt.NDArray[np.int64], neighbours: int) -> list[tuple[int, int]]:
    """The first `neighbours` different clips that are not the clip itself."""
    originals = dict.fromkeys(int(original) for original in found if original >= 0 and original != copy)
    return [(copy, original) for original in itertools.islice(originals, neighbours)]


def _descriptors(one: Fingerprint) -> Grids:
    """Unit vectors (windows, 2 * cells^2): the coarser details inside each sub-window."""
    spread = GRID / _CELLS / 2
    images = [gaussian_filter(image.astype(np.float32), spread * 0.7) for image in one.shape_2GG]
    rows, columns = _places(_WINDOWS, (np.arange(_CELLS) + 0.5) / _CELLS)
    vectors = np.concatenate(
        [map_coordinates(i, [rows, columns], order=1).reshape(len(_WINDOWS), -1) for i in images], 1
    )
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _places(windows: Ends, unit: Ends) -> tuple[Grids, Grids]:
    """Grid coordinates (windows, cells, cells) of the places `unit`, in [0, 1], along both axes of each window."""
    top, left, bottom, right = (windows[:, end, None] for end in range(4))
    rows = (top + (bottom - top) * unit) * GRID - 0.5
    columns = (left + (right - left) * unit) * GRID - 0.5
    shape = (len(windows), len(unit), len(unit))
    return np.broadcast_to(rows[:, :, None], shape), np.broadcast_to(columns[:, None, :], shape)


def compare(original: Fingerprint, copy: Fingerprint, *, window: Ends) -> float:
    """Correlation of a copy's speckle with the part of the original that it was cut to, fitted from a first guess.

    window: (top, left, bottom, right) of that part, in [0, 1] of the original's bounding box. 0 where even the shapes
    differ.
    """
    for blur_cells, stride in _LEVELS:
        fit = _Fit(original, copy, blur_cells=blur_cells, stride=stride)
        for _ in range(_STEPS):
            step, alike = fit.step(window)
            window = window + step
            if np.abs(step).max() < 0.02 / GRID:
                break
        if alike < _MIN_SHAPE:
            return 0.0
    return _speckle(original, copy, window)


class _Fit:
    """Least squares of the shapes over the window's four ends, at one blur and on every `stride`-th cell."""

    def __init__(self, original: Fingerprint, copy: Fingerprint, *, blur_cells: float, stride: int) -> None:
        smooth = (gaussian_filter(image.astype(np.float32), blur_cells) for image in original.shape_2GG)
        self._original = [(image, *np.gradient(image)) for image in smooth]
        self._target = [
            gaussian_filter(image.astype(np.float32), blur_cells)[::stride, ::stride] for image in copy.shape_2GG
        ]
        self._inside, self._within = original.inside_GG.astype(np.float32), copy.inside_GG[::stride, ::stride]
        self._unit = ((np.arange(GRID) + 0.5) / GRID)[::stride]

    def step(self, window: Ends) -> tuple[Ends, float]:
        """One Gauss-Newton step, details scaled to one size, and the correlation before it."""
        rows, columns = _places(window[None], self._unit)
        at = [rows[0], columns[0]]
        common = self._within & (map_coordinates(self._inside, at, order=1) > 0.5)
        if common.sum() < _MIN_OVERLAP * self._within.sum():
            return np.zeros(4), 0.0
        down, across = (axis[common] for axis in np.broadcast_arrays(self._unit[:, None], self._unit[None, :]))
        normal, gradient = np.zeros((4, 4)), np.zeros(4)
        products = np.zeros(3)
        for (image, slope_row, slope_column), whole_target in zip(self._original, self._target):
            warped, by_row, by_column = (
                map_coordinates(i, at, order=1)[common] for i in (image, slope_row, slope_column)
            )
            target = whole_target[common]
            both = np.array([warped @ target, warped @ warped, target @ target])
            products += both
            scale = both[0] / max(both[1], 1e-6)
            # d(row) / d(top) = 1 - unit, d(row) / d(bottom) = unit; columns alike; in units of the bounding box.
            ends = [by_row * (1 - down), by_column * (1 - across), by_row * down, by_column * across]
            jacobian = scale * GRID * np.stack(ends)
            normal += jacobian @ jacobian.T
            gradient += jacobian @ (target - scale * warped)
        alike = float(products[0] / max(np.sqrt(products[1] * products[2]), 1e-6))
        damping = (1e-3 * np.trace(normal) / 4 + 1e-9) * np.eye(4)
        return np.clip(np.linalg.solve(normal + damping, gradient), -_MAX_STEP, _MAX_STEP), alike


def _warp(image: npt.NDArray[np.generic], window: Ends) -> Grids:
    rows, columns = _places(window[None], (np.arange(GRID) + 0.5) / GRID)
    return map_coordinates(image.astype(np.float32), [rows[0], columns[0]], order=1)


def _speckle(original: Fingerprint, copy: Fingerprint, window: Ends) -> float:
    """Mean correlation of the copy's frames with the original's, forwards or backwards, whichever is higher."""
    common = copy.inside_GG & (_warp(original.inside_GG, window) > 0.5)
    if common.sum() < max(_MIN_OVERLAP * copy.inside_GG.sum(), GRID):
        return 0.0
    theirs = _unit(np.stack([_warp(frame, window)[common] for frame in original.frames_KGG]))
    ours = _unit(copy.frames_KGG[:, common].astype(np.float32))
    each = ours @ theirs.T
    return max(float(np.diag(each).mean()), float(np.diag(each[:, ::-1]).mean()))


def _unit(frames: Grids) -> Grids:
    frames = frames - frames.mean(axis=1, keepdims=True)
    return frames / np.maximum(np.linalg.norm(frames, axis=1, keepdims=True), 1e-6)
