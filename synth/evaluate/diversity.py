"""Diversity: how many different clips a set is worth, and how much of the real ones it covers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.intervals import LEAST_PATIENTS, half_samples
from echofm.metric.neighbourhood import Distances
from echofm.metric.vendi import gaussian_kernel, vendi_score
from synth.evaluate.card import Figure, Panel
from synth.evaluate.features import standardised
from synth.evaluate.fidelity import FLOOR, Compared

_NAMES = ("precision", "recall", "density", "coverage", "Vendi score over clips", "Vendi score below the real one")
_DRAWS = 100
# All pairs of clips are compared in every draw.
_MOST_CLIPS = 2000


def diversity(clips: Compared | None, *, seed: int) -> Panel:
    """The panel, of clip vectors. Neighbours are sought among held-out clips; of each set as many clips count.

    Vendi score: of order 2, over the number of clips, under a Gaussian kernel half as wide as training clips lie from
    the nearest clip of another patient: what is closer than patients are counts as one clip. The panel fails where it
    stays below the real training set's beyond its interval. Recall and coverage are shown and do not decide: both fall
    with fidelity too.
    """
    if clips is None or clips.fewest < LEAST_PATIENTS:
        return Panel.not_tested(f"A set has fewer than {LEAST_PATIENTS} patients or clips.")
    train, holdout, synthetic = standardised(clips.train, [clips.holdout, clips.synthetic])
    least = min(_MOST_CLIPS, *(len(each) for each in (train, holdout, synthetic)))
    rng = np.random.default_rng(seed)
    parts = [each.some(least, rng) for each in (train, holdout, synthetic)]
    numbers = [each.patient_numbers for each in parts]
    vectors = [each.vectors_VD for each in parts]
    found, floor = (Distances.between(vectors[1], vectors[index]) for index in (2, 0))
    bandwidth = _nearest_patient(floor.synthetic_MM, numbers[0]) / 2
    kernels = [gaussian_kernel(each.synthetic_MM, bandwidth=bandwidth) for each in (found, floor)]

    def figures(*chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        rows = []
        for draw in zip(*chosen):
            real, held, made = (np.flatnonzero(of[number]) for of, number in zip(draw, numbers))
            vendi = [
                vendi_score(kernel[np.ix_(which, which)], order=2) / len(which)
                for kernel, which in zip(kernels, (made, real))
            ]
            rows.append([*found.of(held, made), vendi[0], *floor.of(held, real), vendi[1], vendi[1] - vendi[0]])
        return np.array(rows)

    estimates = half_samples(figures, [int(each.max()) + 1 for each in numbers], draws=_DRAWS, seed=seed)
    own, real, below = estimates[:5], estimates[5:10], estimates[10]
    listed = [Figure(name=name, found=a, beside={FLOOR: b}) for name, a, b in zip(_NAMES, own, real)]
    listed.append(Figure(name=_NAMES[-1], found=below))
    words = f"{own[4].value:.0%} of {least} clips count as different ones, {real[4].value:.0%} of as many real ones"
    failed = below.low > 0
    return Panel(
        verdict="fail" if failed else "pass",
        headline=f"Less diverse than real clips: {words}." if failed else f"As diverse as real clips: {words}.",
        figures=listed,
    )


def _nearest_patient(distance_NN: npt.NDArray[np.float64], patient_N: npt.NDArray[np.int64]) -> float:
    """Median distance of a clip to the nearest clip of another patient."""
    apart_NN = np.where(patient_N[:, None] == patient_N, np.inf, distance_NN)
    return float(np.median(apart_NN.min(1)))
