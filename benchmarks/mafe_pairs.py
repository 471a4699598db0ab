"""How far the pairs of frames found by self-similarity lie from end-diastole and end-systole, on five real clips.

    python -m benchmarks.mafe_pairs

In parts of a cycle, of each clip the median over its beats; beside the darkest-pixel rule (most and fewest dark pixels
in the sector), and beside what the outlines' own noise does to their extremes. True ends: extremes of the published
outlines' area, smoothed over nine frames. The clips lie in ../shared/real (or $ECHOFM_REAL_CLIPS) and are never
shipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, savgol_filter

from benchmarks.real_cycle import _SHARED, real_curves
from echofm.clip import Clip
from synth.mafe.phase import Beats, find_beats

Doubles = npt.NDArray[np.float64]
_SMOOTHED = 9


def extremes(area_T: Doubles, apart: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Frames of the largest and of the smallest area in each beat."""
    least = 0.25 * np.ptp(area_T)
    largest, smallest = (find_peaks(sign * area_T, distance=apart, prominence=least)[0] for sign in (1, -1))
    return largest, smallest


def distance(found: list[int], truth: npt.NDArray[np.int64], cycle: float) -> float:
    """Median distance of the found frames from the nearest true one, in cycles; NaN without either."""
    if not found or not len(truth):
        return float("nan")
    return float(np.median([np.abs(truth - frame).min() for frame in found]) / cycle)


def darkest(clip: Clip, beats: Beats, rate_hz: float) -> tuple[list[int], list[int]]:
    """Most and fewest pixels darker than the sector's lower quartile, smoothed as the course is."""
    inside_TN = clip.frames_TCHW[:, 0][:, clip.sector_HW]
    dark_T = (inside_TN < np.quantile(inside_TN, 0.25)).sum(1).astype(np.float64)
    smooth_T = gaussian_filter1d(dark_T, 0.04 * beats.cycle_s * rate_hz)
    largest, smallest = extremes(smooth_T, int(0.6 * beats.cycle_s * rate_hz))
    return largest.tolist(), smallest.tolist()


def noise(area_T: Doubles, apart: int, cycle: float, draws: int = 200) -> tuple[float, float]:
    """How far the extremes move where the outlines err anew by as much as they do."""
    rng, course_T = np.random.default_rng(0), savgol_filter(area_T, _SMOOTHED, 2)
    truth, found = extremes(course_T, apart), ([], [])
    for _ in range(draws):
        again = extremes(savgol_filter(course_T + rng.choice(area_T - course_T, len(area_T)), _SMOOTHED, 2), apart)
        for moved, old, kept in zip(again, truth, found):
            kept.append(distance(moved.tolist(), old, cycle))
    return float(np.nanmean(found[0])), float(np.nanmean(found[1]))


def main() -> None:
    """Print the table."""
    print("| real clip | correlation with area | pairs: ED, ES | darkest pixels: ED, ES | outlines' noise: ED, ES |")
    print("|---|---|---|---|---|")
    for number, (clip, curve) in enumerate(real_curves(Path(os.environ.get("ECHOFM_REAL_CLIPS", _SHARED))), 1):
        rate_hz = curve.frame_rate_hz
        beats = find_beats(clip.frames_TCHW[:, 0], curve.time_s_F)
        if beats is None:
            print(f"| {number} | nothing repeats | - | - | - |")
            continue
        # Short beats of an irregular heart count too.
        cycle, apart = beats.cycle_s * rate_hz, int(0.35 * beats.cycle_s * rate_hz)
        truth = extremes(savgol_filter(curve.area_F, _SMOOTHED, 2), apart)
        ours = [distance([pair[end] for pair in beats.pairs], truth[end], cycle) for end in (0, 1)]
        dark = [distance(frames, truth[end], cycle) for end, frames in enumerate(darkest(clip, beats, rate_hz))]
        own = noise(curve.area_F, apart, cycle)
        r = np.corrcoef(beats.course_T, curve.area_F)[0, 1]
        cells = " | ".join(f"{one:.3f}, {other:.3f}" for one, other in (ours, dark, own))
        print(f"| {number} | {r:.2f} | {cells} |")


if __name__ == "__main__":
    main()
