"""Fidelity: how far a synthetic set is from held-out patients, beside how far the real training set is.

The published comparison is with training frames, so that a model that copies them wins.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.intervals import LEAST_PATIENTS, Estimate, half_samples
from echofm.metric.frechet import frechet_distance
from echofm.metric.kernel_distance import kernel_distances
from synth.evaluate.card import Figure, Panel
from synth.evaluate.features import Vectors, standardised

FLOOR = "real against real"
ABOVE = "kernel distance above the real one"
_COMPONENTS = 32
_FRECHET_DRAWS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One kind of vectors of the three sets."""

    train: Vectors
    holdout: Vectors
    synthetic: Vectors

    @classmethod
    def of(cls, train: Vectors | None, holdout: Vectors | None, synthetic: Vectors | None) -> Compared | None:
        """None where a set has no such vectors."""
        if train is None or holdout is None or synthetic is None:
            return None
        return cls(train=train, holdout=holdout, synthetic=synthetic)

    @property
    def fewest(self) -> int:
        """Patients of the set that has the fewest; in a synthetic set each clip counts as one."""
        return min(len(np.unique(each.patients)) for each in (self.train, self.holdout, self.synthetic))


def fidelity(spaces: Mapping[str, Compared | None], *, seed: int, draws: int, alpha: float = 0.05) -> Panel:
    """The panel. spaces: by name, e.g. "encoder, clip"; None: not in all three sets, which is noted.

    It fails where the kernel distance to held-out patients passes that of the real training set beyond its interval in
    any space, at alpha over all spaces together.
    """
    known = {name: each for name, each in spaces.items() if each is not None and each.fewest >= LEAST_PATIENTS}
    if not known:
        return Panel.not_tested(f"A set has fewer than {LEAST_PATIENTS} patients or clips.")
    lacking = f"not of {LEAST_PATIENTS} patients or clips in all three sets, so not compared."
    notes = [f"{name}: {lacking}" for name in spaces if name not in known]
    level = 1 - alpha / len(known)
    figures, further = [], []
    for name, each in known.items():
        kernel, excess = _kernel(each, seed=seed, draws=draws, level=level)
        figures += [
            kernel.model_copy(update={"name": f"kernel distance, {name}"}),
            Figure(name=f"{ABOVE}, {name}", found=excess),
            _frechet(each, seed=seed).model_copy(update={"name": f"Frechet distance, {name}"}),
        ]
        if excess.low > 0:
            floor = kernel.beside[FLOOR]
            further.append((name, excess.value / max(floor.high - floor.low, 1e-12)))
    if not further:
        headline = f"Not told from held-out patients in any of {len(known)} spaces."
        return Panel(verdict="pass", headline=headline, figures=figures, notes=notes)
    worst, widths = max(further, key=lambda found: found[1])
    headline = (
        f"Further from held-out patients than real clips are in {len(further)} of {len(known)} spaces, most in "
        f"{worst} ({widths:.1f} widths of the real interval further)."
    )
    return Panel(verdict="fail", headline=headline, figures=figures, notes=notes)


def _kernel(each: Compared, *, seed: int, draws: int, level: float) -> tuple[Figure, Estimate]:
    train, holdout, synthetic = standardised(each.train, [each.holdout, each.synthetic])
    sets = [(own.vectors_VD, own.patients) for own in (train, synthetic)]
    distances = functools.partial(
        kernel_distances, holdout.vectors_VD, sets, patients=holdout.patients, draws=draws, seed=seed
    )
    floor, found, _ = distances()
    # The verdict's own level, wider for several spaces.
    excess = distances(level=level)[2]
    return Figure(name="", found=found, beside={FLOOR: floor}), excess


def _frechet(each: Compared, *, seed: int) -> Figure:
    """In the first components of the training vectors, of as many vectors a set as the smallest has: it is biased by
    their number."""
    train, holdout, synthetic = standardised(each.train, [each.holdout, each.synthetic])
    axes = np.linalg.svd(train.vectors_VD, full_matrices=False)[2][:_COMPONENTS].T
    rng = np.random.default_rng(seed)
    least = min(map(len, (train, holdout, synthetic)))
    parts = [own.some(least, rng) for own in (train, holdout, synthetic)]
    rows = [own.vectors_VD @ axes for own in parts]
    numbers = [own.patient_numbers for own in parts]

    def distances(*chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = []
        for draw in zip(*chosen):
            real, held, made = (row[of[number] > 0] for row, of, number in zip(rows, draw, numbers))
            found.append([frechet_distance(made, held), frechet_distance(real, held)])
        return np.array(found)

    found, floor = half_samples(distances, [int(each.max()) + 1 for each in numbers], draws=_FRECHET_DRAWS, seed=seed)
    return Figure(name="", found=found, beside={FLOOR: floor})
