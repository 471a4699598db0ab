"""Figures under redrawn test patients: each is a function of how often every row counts.

Shapes: N rows (clips, frames, queries, ...), W draws at a time, J draws in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, estimate, patient_weights
from probe.result import Pooling

Array = npt.NDArray[np.float64]


class Key(NamedTuple):
    """What a figure is: a metric, of one class, structure or label ("" for all), by clip, study or patient."""

    metric: str
    of: str = ""
    level: Pooling = "clip"


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """One metric of one method.

    of: (W, N) weights -> (W,) values; a row of weight 2 counts twice, one of weight 0 not at all.
    patients_N: whose each row is. rows_N: the rows that it is of, None for all; only their patients are redrawn.
    """

    of: Callable[[Array], Array]
    patients_N: npt.NDArray[np.str_]
    rows_N: npt.NDArray[np.bool_] | None = None

    def same_rows(self, other: Figure) -> bool:
        """Whether both are of the same rows, so that one draw of patients serves both."""
        return np.array_equal(_all(self), _all(other))


@dataclass(frozen=True, kw_only=True, eq=False)
class Redrawn:
    """A figure's value on the test rows, and values_J under redrawn patients, `patients` of them."""

    value: float
    values_J: Array
    patients: int

    @property
    def estimate(self) -> Estimate:
        return estimate(self.value, self.values_J, patients=self.patients)

    def minus(self, other: Redrawn) -> Estimate:
        """The paired difference: both figures under the same draws."""
        return estimate(self.value - other.value, self.values_J - other.values_J, patients=self.patients)


def redraw(figures: Mapping[Key, Figure], *, draws: int, seed: int) -> dict[Key, Redrawn]:
    """Every figure under `draws` redrawn sets of patients; figures of the same rows meet the same ones."""
    groups: dict[tuple[int, bytes], list[Key]] = {}
    for key, figure in figures.items():
        rows = b"" if figure.rows_N is None else figure.rows_N.tobytes()
        groups.setdefault((id(figure.patients_N), rows), []).append(key)
    found: dict[Key, Redrawn] = {}
    for keys in groups.values():
        found |= _together({key: figures[key] for key in keys}, draws=draws, seed=seed)
    return {key: found[key] for key in figures}


def difference(first: Figure, second: Figure, *, draws: int, seed: int) -> Estimate:
    """First minus second on the rows that either is of, patients redrawn together."""
    rows_N = _all(first) | _all(second)
    key, other = Key("first"), Key("second")
    pair = {
        name: Figure(of=each.of, patients_N=first.patients_N, rows_N=rows_N)
        for name, each in ((key, first), (other, second))
    }
    found = redraw(pair, draws=draws, seed=seed)
    return found[key].minus(found[other])


def mean_of(values_N: npt.NDArray) -> Callable[[Array], Array]:
    """The statistic of a weighted mean."""
    return lambda weights_WN: ratio(weights_WN @ values_N, weights_WN.sum(1))


def mean_where(values_WK: Array, known_WK: npt.NDArray[np.bool_]) -> Array:
    """(W,) mean of each row's known values; NaN where there are none."""
    return ratio(np.where(known_WK, values_WK, 0).sum(1), known_WK.sum(1).astype(np.float64))


def ratio(above: Array, below: Array) -> Array:
    """Above over below; NaN where that is not defined."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 1e-300)


def _together(figures: Mapping[Key, Figure], *, draws: int, seed: int) -> dict[Key, Redrawn]:
    """Figures of the same rows: one draw of patients serves them all."""
    one = next(iter(figures.values()))
    rows = np.flatnonzero(_all(one))
    patients = one.patients_N[rows]

    def whole(weights_WR: Array) -> Array:
        if len(rows) == len(one.patients_N):
            return weights_WR
        weights_WN = np.zeros((len(weights_WR), len(one.patients_N)))
        weights_WN[:, rows] = weights_WR
        return weights_WN

    blocks = []
    for weights_WR in patient_weights(patients, draws=draws, seed=seed):
        weights_WN = whole(weights_WR)
        blocks.append({key: figure.of(weights_WN) for key, figure in figures.items()})
    once = whole(np.ones((1, len(rows))))
    count = len(np.unique(patients))
    return {
        key: Redrawn(
            value=float(figure.of(once)[0]),
            values_J=np.concatenate([block[key] for block in blocks]),
            patients=count,
        )
        for key, figure in figures.items()
    }


def _all(figure: Figure) -> npt.NDArray[np.bool_]:
    return np.ones(len(figure.patients_N), bool) if figure.rows_N is None else figure.rows_N
