"""evaluate: what a frozen encoder's features tell about a label of a clip.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.rows import Rows
from probe.baselines import CONSTANT, constant
from probe.checks.embedding import check_embedding, check_split
from probe.labels.answers import LabelAnswers, Truth, prediction_frame, subgroups, truth_of
from probe.labels.choose import Fitted, Labels, Plan, fit_best
from probe.labels.features import Features, Matrix, feature_choices, read_features
from probe.labels.target import ClipTask, Target, read_goal
from probe.partition import Partition, some_patients
from probe.predict.conformal import margins_of
from probe.predict.model import LabelModel, ModelFacts
from probe.protocol import Chosen, Entry, ProbeProtocol, require_request, same_clips
from probe.result import Kind, Probed, ProbeResult


def evaluate(
    table: EmbeddingTable,
    *,
    target: str,
    kind: Kind = "linear",
    task: ClipTask | None = None,
    order: Sequence[str] = (),
    features: Features = "auto",
    label_fractions: Sequence[float] = (1.0,),
    seeds: int = 5,
    draws: int = 1000,
    baselines: Mapping[str, EmbeddingTable] | None = None,
    test_clips: Collection[str] | None = None,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What a frozen encoder's features tell about a label of a clip.

    target: a label, `view` or `kind`; `a+b` probes several 0/1 labels. task, order: see `read_target`.
    kind: "linear" (ridge, logistic or cumulative logit), "knn" (cosine neighbours) or "attentive" (one learned query
        over a clip's tokens). Penalties are chosen on validation patients, by the first of the task's metrics.
    features: what is read of a clip, see `feature_choices`; "auto" chooses on validation patients.
    label_fractions: parts of the training patients whose labels are used, each drawn `seeds` times.
    baselines: tables of other encoders over the same clips (random init, pixel PCA); differences are bootstrapped in
        pairs.
    test_clips: ids of the clips to test on, another hospital's: `evaluate(EmbeddingTable.concat([ours, theirs]), ...,
        test_clips=theirs.clip_id)`. Fitted and chosen is on the others, as `probe.partition.partition` says.
    advance: called after each of `fits_of` fits with a note, for a progress bar.
    Raises EchofmError on a target, split or baseline that does not fit, and on a patient in two splits.
    """
    if not label_fractions or not all(0 < fraction <= 1 for fraction in label_fractions):
        raise EchofmError(f"label fractions {tuple(label_fractions)} must lie above 0 and at most at 1")
    require_clip_kind(kind)
    require_request(baselines, seed=seed, seeds=seeds, draws=draws)
    goal, part = read_goal(table, target, task=task, order=order, test_clips=test_clips, seed=seed)
    protocol = LabelProtocol(
        table=table,
        goal=goal,
        part=part,
        truth=truth_of(table, goal, part),
        kind=kind,
        features=features,
        fractions=tuple(sorted({*label_fractions} - {1.0}, reverse=True)),
        seeds=seeds,
        draws=draws,
        seed=seed,
        advance=advance,
    )
    return protocol.probe(table, baselines)


def require_clip_kind(kind: Kind) -> None:
    """Raises EchofmError on a probe that cannot read a clip's label."""
    if kind == "upsampling":
        raise EchofmError("an up-sampling head is for segmentation; probe a clip's label by linear, attentive or knn")


def fits_of(*, kind: Kind, label_fractions: Sequence[float], seeds: int, baselines: int = 0) -> int:
    """How many times `evaluate` calls `advance`."""
    whole = seeds if kind == "attentive" else 1
    return whole * (1 + baselines) + seeds * len({*label_fractions} - {1.0})


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelProtocol(ProbeProtocol[EmbeddingTable, LabelAnswers]):
    """One target and partition, on which every encoder is fitted alike. notes: what a reader must know of the fits."""

    table: EmbeddingTable
    goal: Target
    part: Partition
    truth: Truth
    kind: Kind
    features: Features
    fractions: tuple[float, ...]
    seeds: int
    notes: list[str] = field(default_factory=list)
    models: list[LabelModel] = field(default_factory=list)

    def probed(self, own: LabelAnswers, scored: dict[str, Any]) -> Probed:
        """The result, and the predictions with all labels."""
        table, goal, part, predicted_NS = self.table, self.goal, self.part, own.predicted_NS
        rows = table.rows.iloc[part.test]
        result = ProbeResult(
            target=goal.name,
            task=goal.task,
            kind=self.kind,
            features=str(own.chosen["features"]),
            classes=list(goal.classes),
            **part.described(table),
            seeds=self.seeds,
            **scored,
            sanity=check_embedding(table).with_check(check_split(table, part, seed=self.seed)),
            subgroups=subgroups(rows, goal, self.truth, predicted_NS, draws=self.draws, seed=self.seed),
            notes=[*part.notes, *goal.class_notes(part), *self.notes],
        )
        model = self.models[0] if self.models else None
        return Probed(result=result, predictions=prediction_frame(table, goal, part, predicted_NS), model=model)

    def answer(self, method: str, source: EmbeddingTable) -> LabelAnswers:
        """With all labels."""
        table = same_clips(source, self.table, method)
        predicted_NS, chosen = self._predict(method, table, fraction=1.0)
        return self.truth.answers(predicted_NS, **chosen)

    def beside(self, own: LabelAnswers) -> Iterator[Entry]:
        """The probe with fewer labels, and the predictor that looks at no features."""
        for fraction in self.fractions:
            predicted_NS, _ = self._predict("probe", self.table, fraction=fraction)
            answers = self.truth.answers(predicted_NS)
            yield Entry(method="probe", answers=answers, label_fraction=fraction, compared=False)
        answers = self.truth.answers(constant(self.goal, self.part))
        yield Entry(method=CONSTANT[self.goal.task], answers=answers)

    def _predict(self, method: str, table: EmbeddingTable, *, fraction: float) -> tuple[npt.NDArray, Chosen]:
        """(N, S[, K]) test predictions, and what the first fit chose. With all labels nothing is drawn: S = 1 unless
        the fit itself is random."""
        predicted, one_class, part = [], 0, f"{100 * fraction:.3g}%"
        chosen: Chosen = {}
        matrices = self._matrices(method, table)
        numbers = range(self.seeds if fraction < 1 or self.kind == "attentive" else 1)
        for number in numbers:
            rows = some_patients(table, self.part.train, fraction=fraction, seed=self.seed + number)
            values = self.goal.of(rows)
            one_class += int(self.goal.task in ("classification", "ordinal") and len(np.unique(values)) < 2)
            # Attentive fits of other seeds take over what the first has chosen: a grid for each would cost hours.
            fixed = chosen if number and fraction == 1.0 else None
            name, fitted = self._best(matrices, rows, number=number, fixed=fixed)
            matrix = matrices[name]
            predicted.append(fitted.predict_each(Rows(features_ND=matrix.values_NF, index_M=self.part.test)))
            if method == "probe" and fraction == 1.0 and matrix.scales is not None and self.kind == "linear":
                self.models.append(self._model(fitted, matrix))
            if number == 0:
                chosen = {"features": name, **fitted.chosen}
            self.advance(f"{part} of the labels")
        if one_class:
            self.notes.append(
                f"{one_class} of {len(numbers)} draws of {part} of the training patients hold one class only; the "
                "probe says that class"
            )
        return np.stack(predicted, 1), chosen

    def _matrices(self, method: str, table: EmbeddingTable) -> dict[str, Matrix]:
        """What is tried of a table. A baseline that lacks what was asked for is probed on what it has."""
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
        return {name: read_features(table, name, kind=self.kind, train=self.part.train) for name in names}

    def _model(self, fitted: Fitted, matrix: Matrix) -> LabelModel:
        """What was fitted, with intervals from the validation patients."""
        assert matrix.scales is not None
        val = self.part.val
        predicted = fitted.predict_each(Rows(features_ND=matrix.values_NF, index_M=val))
        rows, goal = self.table.rows, self.goal
        return LabelModel(
            fitted=fitted,
            scales=matrix.scales,
            facts=ModelFacts.of(self.table, goal, self.part),
            margins=margins_of(goal.task, goal.of(val), predicted, rows.iloc[val]),
        )

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _best(
        self, matrices: Mapping[str, Matrix], rows: npt.NDArray[np.int64], *, number: int, fixed: Chosen | None
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
                for part in (rows, self.part.val)
            )
            fitted = fit_best(plan, train, val)
            if found is None or fitted.beats(found[1]):
                found = name, fitted
        assert found is not None
        return found
