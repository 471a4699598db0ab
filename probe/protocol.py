"""The protocol of every probe: fit on training patients, choose on validation patients, look at test patients once.

Labels, phase, segmentation and retrieval say what is fitted and what is asked; scores, intervals over redrawn patients
and paired differences to other methods are made here, alike for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.bootstrap import Figure, Key, Redrawn, difference, redraw
from probe.result import Comparison, Probed, Score

Chosen = dict[str, float | str]
# What a result calls the probe itself and the predictors that look at no features.
METHODS = frozenset(["probe", "chance", "mean", "majority", "prevalence"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What one method answers for the test patients: its figures, and what was chosen on validation patients."""

    figures: Mapping[Key, Figure]
    chosen: Chosen = field(default_factory=dict)


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
        """Methods that need no other encoder: chance, a constant, fewer labels."""
        return ()

    def comparable(self, key: Key) -> bool:
        """Whether differences to other methods are taken in this figure."""
        return not key.of

    def paired(self, own: Answered, other: Answers) -> bool:
        """Whether both were asked the same, row by row."""
        return True

    def probe(self, source: Source, baselines: Mapping[str, Source] | None) -> Probed:
        """Scores of the probe, of what stands beside it and of the baselines, and the probe minus each of these."""
        own = self.answer("probe", source)
        others = (Entry(method=name, answers=self.answer(name, each)) for name, each in (baselines or {}).items())
        ours = redraw(own.figures, draws=self.draws, seed=self.seed)
        scores, comparisons = _scores(Entry(method="probe", answers=own), ours), []
        chosen = {"probe": own.chosen}
        for entry in (*self.beside(own), *others):
            theirs = redraw(entry.answers.figures, draws=self.draws, seed=self.seed)
            scores += _scores(entry, theirs)
            if entry.compared and self.paired(own, entry.answers):
                comparisons += self._comparisons(own, ours, entry, theirs)
            if entry.answers.chosen:
                chosen[entry.method] = entry.answers.chosen
        return self.probed(own, {"chosen": chosen, "scores": scores, "comparisons": comparisons})

    def _comparisons(
        self, own: Answered, ours: Mapping[Key, Redrawn], entry: Entry, theirs: Mapping[Key, Redrawn]
    ) -> list[Comparison]:
        found = []
        for key, each in theirs.items():
            if key not in ours or not self.comparable(key) or np.isnan(each.value):
                continue
            first, second = own.figures[key], entry.answers.figures[key]
            alike = first.same_rows(second)
            apart = ours[key].minus(each) if alike else difference(first, second, draws=self.draws, seed=self.seed)
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


def same_clips(other: EmbeddingTable, table: EmbeddingTable, name: str, *, phase: bool = False) -> EmbeddingTable:
    """The other table's rows of the table's clips, in its order. Raises EchofmError where it lacks clips, or phase
    tokens if needed."""
    index = pd.Index(other.clip_id).get_indexer(pd.Index(table.clip_id))
    if (index < 0).any():
        raise EchofmError(
            f"{int((index < 0).sum())} clips are not in the table of {name!r}; embed the same data with both encoders"
        )
    if phase and other.phase is None:
        raise EchofmError(f"table {name!r} has no phase tokens; embed the clips with phase on")
    # Rows in the table's order already stay where they are, mapped from disk perhaps.
    return other if np.array_equal(index, np.arange(len(other))) else other.select(index)


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
