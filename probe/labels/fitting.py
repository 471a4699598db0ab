"""LabelProtocol: how a label's probe and all that stands beside it are fitted, on one split or in every fold.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.estimators.rows import Rows
from probe.baselines import CONSTANT, constant, reduced
from probe.checks.embedding import check_embedding, check_split
from probe.labels.answers import LabelAnswers, Truth, prediction_frame, subgroups
from probe.labels.choose import Fitted, Labels, Plan, fit_best
from probe.labels.elsewhere import ELSEWHERE, NOTE
from probe.labels.features import Features, Matrix, feature_choices, read_features
from probe.labels.folds import fold_notes
from probe.labels.metrics import METRICS
from probe.labels.target import Target
from probe.partition import Partition, few_patients, same_clips, some_patients
from probe.predict.conformal import margins_of
from probe.predict.model import LabelModel, ModelFacts
from probe.protocol import Chosen, Entry, ProbeProtocol
from probe.result import Kind, Probed, ProbeResult


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelProtocol(ProbeProtocol[EmbeddingTable, LabelAnswers]):
    """One target and partition, on which every encoder is fitted alike.

    rounds: of a cross-validation, by repeat, its folds' partitions; `part` then has all rows to test. reduce: as of
    `evaluate`. notes: what a reader must know of the fits. models: what was fitted with all labels, if it can be saved.
    """

    table: EmbeddingTable
    goal: Target
    part: Partition
    truth: Truth
    kind: Kind
    features: Features
    fractions: tuple[float, ...]
    seeds: int
    rounds: list[list[Partition]] | None = None
    reduce: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    models: list[LabelModel] = field(default_factory=list)

    def probed(self, own: LabelAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and the predictions with all labels."""
        table, goal, part, predicted_NS = self.table, self.goal, self.part, own.predicted_NS
        rows = table.rows.iloc[part.test]
        elsewhere = [NOTE] if part.source == "test clips" and ELSEWHERE[goal.task] else []
        result = ProbeResult(
            target=goal.name,
            task=goal.task,
            kind=self.kind,
            features=str(own.chosen["features"]),
            classes=list(goal.classes),
            **part.described(table),
            seeds=self.seeds,
            **scored,
            folds=1 if self.rounds is None else len(self.rounds[0]),
            sanity=check_embedding(table).with_check(check_split(table, self._parts(0)[0], seed=self.seed)),
            subgroups=subgroups(rows, goal, self.truth, predicted_NS, draws=self.draws, seed=self.seed),
            notes=[*part.notes, *elsewhere, *self._class_notes(), *few_patients(table, goal.rows_M, part), *self.notes],
        )
        model = self.models[0] if self.models else None
        return Probed(result=result, predictions=prediction_frame(table, goal, part, predicted_NS), model=model)

    def answer(self, method: str, source: EmbeddingTable) -> LabelAnswers:
        """With all labels, and with each part of them."""
        table = same_clips(source, self.table, method)
        predicted_NS, chosen = self._predict(method, table, fraction=1.0)
        answers = self.truth.answers(predicted_NS, **chosen)
        fewer = {
            fraction: self.truth.answers(self._predict(method, table, fraction=fraction)[0])
            for fraction in self.fractions
        }
        return answers.with_fewer(fewer, self._metric)

    def again(self, method: str, source: EmbeddingTable) -> LabelAnswers:
        """With all labels."""
        return replace(self, fractions=(), models=[]).answer(method, source)

    def entries(self, method: str, source: EmbeddingTable) -> Iterator[Entry]:
        """An encoder with all labels and with fewer."""
        answers = self.answer(method, source)
        yield Entry(method=method, answers=answers)
        yield from _fewer(method, answers)

    def beside(self, own: LabelAnswers) -> Iterator[Entry]:
        """The probe with fewer labels, and the predictor that looks at no features."""
        yield from _fewer("probe", own)
        answers = self.truth.answers(self._constant(1.0))
        fewer = {fraction: self.truth.answers(self._constant(fraction)) for fraction in self.fractions}
        answers, name = answers.with_fewer(fewer, self._metric), CONSTANT[self.goal.task]
        yield Entry(method=name, answers=answers)
        yield from _fewer(name, answers)

    @property
    def _metric(self) -> str:
        return next(iter(METRICS[self.goal.task]))

    def _class_notes(self) -> list[str]:
        if self.rounds is None:
            return self.goal.class_notes(self.part)
        return fold_notes(self.table, self.goal, count=len(self.rounds[0]))

    def _numbers(self, fraction: float, *, drawn: bool) -> range:
        """A column of predictions each. drawn: whether the fit itself is random."""
        return range(self.seeds if fraction < 1 or drawn or self.rounds is not None else 1)

    def _parts(self, number: int) -> list[Partition]:
        """The partitions whose test rows together are tested in one column."""
        return [self.part] if self.rounds is None else self.rounds[number]

    def _train(self, part: Partition, *, fraction: float, number: int) -> npt.NDArray[np.int64]:
        return some_patients(self.table, part.train, fraction=fraction, seed=self.seed + number)

    def _constant(self, fraction: float) -> npt.NDArray:
        columns = []
        for number in self._numbers(fraction, drawn=False):
            blocks = [
                (part, constant(self.goal, self._train(part, fraction=fraction, number=number), clips=len(part.test)))
                for part in self._parts(number)
            ]
            if self.rounds is not None and fraction == 1.0:
                # One constant: each fold's own is low where its test clips are high, and would correlate below chance.
                one = np.mean([predicted[0] for _, predicted in blocks], axis=0)
                blocks = [(part, np.broadcast_to(one, predicted.shape)) for part, predicted in blocks]
            columns.append(self._column(blocks))
        return np.stack(columns, 1)

    def _column(self, blocks: Sequence[tuple[Partition, npt.NDArray]]) -> npt.NDArray:
        """The predictions of all parts, in the order of the test rows."""
        found = np.empty((len(self.part.test), *blocks[0][1].shape[1:]))
        for part, predicted in blocks:
            found[np.searchsorted(self.part.test, part.test)] = predicted
        return found

    def _predict(self, method: str, table: EmbeddingTable, *, fraction: float) -> tuple[npt.NDArray, Chosen]:
        """(N, S[, K]) test predictions, and what the first fit chose. With all labels nothing is drawn: S = 1 unless
        the fit itself is random."""
        predicted, one_class, words = [], 0, f"{100 * fraction:.3g}%"
        chosen: Chosen = {}
        numbers = self._numbers(fraction, drawn=self.kind == "attentive")
        whole = self._matrices(method, table, self.part) if self.rounds is None else None
        for number in numbers:
            blocks = []
            for part in self._parts(number):
                matrices = whole or self._matrices(method, table, part)
                rows = self._train(part, fraction=fraction, number=number)
                few = self.goal.task in ("classification", "ordinal") and len(np.unique(self.goal.of(rows))) < 2
                one_class += int(few)
                # Attentive fits of other seeds take over what the first has chosen: a grid for each would cost hours.
                takes_over = chosen and fraction == 1.0 and self.rounds is None
                fixed = chosen if takes_over else None
                name, fitted = self._best(matrices, rows, part.val, number=number, fixed=fixed)
                found = fitted.predict_each(Rows(features_ND=matrices[name].values_NF, index_M=part.test))
                blocks.append((part, found))
                if method == "probe" and fraction == 1.0:
                    self._keep(fitted, matrices[name])
                chosen = chosen or {"features": name, **fitted.chosen}
                self.advance(f"{words} of the labels")
            predicted.append(self._column(blocks))
        if one_class:
            self._note(
                f"{one_class} of {len(numbers) * len(self._parts(0))} draws of {words} of the training patients hold "
                "one class only; the probe says that class"
            )
        return np.stack(predicted, 1), chosen

    def _matrices(self, method: str, table: EmbeddingTable, part: Partition) -> dict[str, Matrix]:
        """What is tried of a table. A baseline that lacks what was asked for is probed on what it has."""
        if method in self.reduce:
            table = reduced(table, self.goal, part, seed=self.seed)
        names: tuple[str, ...] = ("video",)
        if method == "probe":
            names = feature_choices(table, self.features, kind=self.kind)
        elif self.kind == "attentive" and table.phase is None and table.tokens is None:
            self._note(f"{method} has no tokens: the attentive probe reads its one vector")
        else:
            names = feature_choices(table, "auto", kind=self.kind)
            if self.features in names:
                names = (self.features,)
            elif self.features != "auto":
                self._note(f"{method} has no features {self.features!r}: it is probed on {', '.join(names)}")
        return {name: read_features(table, name, kind=self.kind, train=part.train) for name in names}

    def _keep(self, fitted: Fitted, matrix: Matrix) -> None:
        """What was fitted, with intervals from the validation patients; of a cross-validation there is no one fit."""
        if matrix.scales is None or self.kind != "linear" or self.rounds is not None:
            return
        val, goal = self.part.val, self.goal
        predicted = fitted.predict_each(Rows(features_ND=matrix.values_NF, index_M=val))
        margins = margins_of(goal.task, goal.of(val), predicted, self.table.rows.iloc[val])
        facts = ModelFacts.of(self.table, goal, self.part)
        self.models.append(LabelModel(fitted=fitted, scales=matrix.scales, facts=facts, margins=margins))

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _best(
        self,
        matrices: Mapping[str, Matrix],
        rows: npt.NDArray[np.int64],
        val_rows: npt.NDArray[np.int64],
        *,
        number: int,
        fixed: Chosen | None,
    ) -> tuple[str, Fitted]:
        found: tuple[str, Fitted] | None = None
        for name, matrix in matrices.items():
            if fixed is not None and name != fixed["features"]:
                continue
            plan = Plan(
                kind=self.kind,
                task=self.goal.task,
                classes=len(self.goal.classes),
                tokens=matrix.tokens,
                seed=self.seed + number,
                fixed=fixed,
            )
            train, val = (
                Labels(rows=Rows(features_ND=matrix.values_NF, index_M=part), values=self.goal.of(part))
                for part in (rows, val_rows)
            )
            fitted = fit_best(plan, train, val)
            if found is None or fitted.beats(found[1]):
                found = name, fitted
        assert found is not None
        return found


def _fewer(method: str, answers: LabelAnswers) -> Iterator[Entry]:
    for fraction, each in answers.fewer.items():
        yield Entry(method=method, answers=each, label_fraction=fraction, compared=False)
