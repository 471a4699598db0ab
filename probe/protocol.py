"""The protocol of every probe: fit on training patients, choose on validation patients, look at test patients once.

Labels, phase, segmentation and retrieval say what is fitted and what is asked; scores, intervals over redrawn patients
and paired differences to other methods are made here, alike for all. A figure is a function of how often every row
counts. Shapes: N rows (clips, frames, queries, ...), W draws at a time, J draws in all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError
from echofm.intervals import Estimate, estimate, patient_weights
from probe.result import Comparison, PerturbedScore, Pooling, Probed, Score

Array = npt.NDArray[np.float64]
Chosen = dict[str, float | str]
# What a result calls the probe itself and the predictors that look at no features.
METHODS = frozenset(["probe", "chance", "mean", "majority", "prevalence"])


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one method answers for the test patients: its figures, what was chosen on validation patients, and figures
    by chance, which stand for themselves."""

    figures: Mapping[Key, Figure]
    chosen: Chosen = field(default_factory=dict)
    chances: Mapping[Key, Figure] = field(default_factory=dict)


Source = TypeVar("Source")
Answered = TypeVar("Answered", bound=Answers)


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A method's row in the results. compared: whether the probe is set against it."""

    method: str
    answers: Answers
    label_fraction: float = 1.0
    compared: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeProtocol(ABC, Generic[Source, Answered]):
    """A probe of an encoder (Source: its table, its tokens, ...), with other encoders beside it under one name each.

    draws, seed: of the bootstrap over test patients, the same for every method. advance: gets a note as work is done.
    """

    draws: int
    seed: int
    advance: Callable[[str], None] = lambda note: None

    @abstractmethod
    def answer(self, method: str, source: Source) -> Answered:
        """Fit, choose, and answer for the test patients."""

    @abstractmethod
    def probed(self, own: Answered, scored: dict[str, Any]) -> Probed:
        """The result and the rows behind it. scored: of a ProbeResult, what is measured alike for all probes."""

    def beside(self, own: Answered) -> Iterable[Entry]:
        """Methods that need no other encoder: a constant, fewer labels."""
        return ()

    def entries(self, method: str, source: Source) -> Iterable[Entry]:
        """The rows of another encoder."""
        yield Entry(method=method, answers=self.answer(method, source))

    def comparable(self, key: Key) -> bool:
        """Whether differences to other methods are taken in this figure."""
        return not key.of

    def paired(self, own: Answered, other: Answers) -> bool:
        """Whether both were asked the same, row by row."""
        return True

    def again(self, method: str, source: Source) -> Answered:
        """Answer where nothing but the test rows is other than before: by what was fitted then."""
        return self.answer(method, source)

    def probe(
        self,
        source: Source,
        baselines: Mapping[str, Source] | None,
        perturbed: Mapping[str, Mapping[str, Source]] | None = None,
    ) -> Probed:
        """Scores of the probe, of what stands beside it and of the baselines, and the probe minus each of these.

        perturbed: by perturbation and method, the sources with perturbed test rows.
        """
        own = self.answer("probe", source)
        others = (entry for name, each in (baselines or {}).items() for entry in self.entries(name, each))
        ours = redraw(own.figures, draws=self.draws, seed=self.seed)
        scores, comparisons = _scores(Entry(method="probe", answers=own), ours), []
        chosen, clean = {"probe": own.chosen}, {"probe": (own.figures, ours)}
        chance = Entry(method="chance", answers=Answers(figures=own.chances), compared=False)
        for entry in (chance, *self.beside(own), *others):
            theirs = redraw(entry.answers.figures, draws=self.draws, seed=self.seed)
            scores += _scores(entry, theirs)
            if entry.compared and self.paired(own, entry.answers):
                comparisons += self._comparisons(own, ours, entry, theirs)
            if entry.label_fraction == 1.0:
                clean[entry.method] = entry.answers.figures, theirs
            if entry.answers.chosen:
                chosen[entry.method] = entry.answers.chosen
        scored = {"chosen": chosen, "scores": scores, "comparisons": comparisons}
        return self.probed(own, {**scored, "perturbed": list(self._perturbed(perturbed or {}, clean))})

    def _perturbed(
        self,
        perturbed: Mapping[str, Mapping[str, Source]],
        clean: Mapping[str, tuple[Mapping[Key, Figure], Mapping[Key, Redrawn]]],
    ) -> Iterator[PerturbedScore]:
        for perturbation, sources in perturbed.items():
            for method, source in sources.items():
                figures = self.again(method, source).figures
                before, redrawn = clean[method]
                for key, each in redraw(figures, draws=self.draws, seed=self.seed).items():
                    if key in redrawn and self.comparable(key):
                        yield PerturbedScore(
                            perturbation=perturbation,
                            method=method,
                            metric=key.metric,
                            level=key.level,
                            estimate=each.estimate,
                            change=self._apart((figures[key], each), (before[key], redrawn[key])),
                        )

    def _apart(self, first: tuple[Figure, Redrawn], second: tuple[Figure, Redrawn]) -> Estimate:
        """First minus second, paired."""
        if first[0].same_rows(second[0]):
            return first[1].minus(second[1])
        return difference(first[0], second[0], draws=self.draws, seed=self.seed)

    def _comparisons(
        self, own: Answered, ours: Mapping[Key, Redrawn], entry: Entry, theirs: Mapping[Key, Redrawn]
    ) -> list[Comparison]:
        found = []
        for key, each in theirs.items():
            if key not in ours or not self.comparable(key) or np.isnan(each.value):
                continue
            apart = self._apart((own.figures[key], ours[key]), (entry.answers.figures[key], each))
            found.append(Comparison(baseline=entry.method, metric=key.metric, level=key.level, difference=apart))
        return found


def require_request(baselines: Iterable[str] | None = None, *, seed: int = 0, **counts: int) -> None:
    """Raises EchofmError where a count is below 1, the seed below 0, or a baseline has a method's own name: its figures
    would be taken for the method's."""
    if seed < 0:
        raise EchofmError(f"the seed is {seed}; give 0 or more")
    if taken := sorted(METHODS & set(baselines or ())):
        raise EchofmError(f"a baseline cannot be named {taken[0]!r}, as a method of the result is; give another name")
    for name, count in counts.items():
        if count < 1:
            raise EchofmError(f"{name} is {count}; give 1 or more")


def _scores(entry: Entry, found: Mapping[Key, Redrawn]) -> list[Score]:
    return [
        Score(
            method=entry.method,
            label_fraction=entry.label_fraction,
            level=key.level,
            metric=key.metric,
            of=key.of,
            estimate=each.estimate,
        )
        for key, each in found.items()
    ]
