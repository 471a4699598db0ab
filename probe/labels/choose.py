"""One fitted probe, its penalty chosen on validation patients.

Shapes: M training clips, V validation clips, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.estimators.logistic import BlockLogistic, OrdinalLogistic
from echofm.estimators.neighbours import NEIGHBOURS, fit_neighbours, mean_votes
from echofm.estimators.penalised import PenalisedClassifier, penalty_path
from echofm.estimators.ridge import ridge_path
from echofm.estimators.rows import Rows
from probe.labels.metrics import CHOOSING, METRICS, better
from probe.labels.target import ClipTask
from probe.protocol import Chosen
from probe.result import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Rows and what is true of them. Of classes: numbers below `classes`."""

    rows: Rows
    values: npt.NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What is fitted. classes: how many a classifier tells apart. tokens: in each row (attentive)."""

    kind: Kind
    task: ClipTask
    classes: int
    tokens: int
    seed: int
    fixed: Chosen | None = None
    """Hyper-parameters chosen before; only these are fitted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """model: gives values or probabilities of a clip; of several labels one each. score: of the task's first metric on
    validation clips."""

    model: Any
    chosen: Chosen
    plan: Plan
    score: float

    def beats(self, other: Fitted) -> bool:
        """Whether it is better on validation patients."""
        return better(next(iter(METRICS[self.plan.task])), self.score, other.score)

    def predict(self, rows: Rows) -> npt.NDArray:
        """(N,) values or (N, K) probabilities, (N, L) of several labels."""
        return _predictions_of(self.model, rows, self.plan)

    def predict_each(self, rows: Rows) -> npt.NDArray:
        """The same, of a linear model clip by clip: the last bit of a product depends on how many rows it has."""
        if self.plan.kind != "linear":
            return self.predict(rows)
        return np.concatenate([self.predict(rows.some(np.array([row]))) for row in range(len(rows))])


# A model, its hyper-parameters, its predictions on the validation clips.
Candidate = tuple[Any, Chosen, npt.NDArray]


def fit_best(plan: Plan, train: Labels, val: Labels) -> Fitted:
    """The candidate that is best on validation patients, the strongest penalty among equals."""
    metric = CHOOSING[plan.task]
    best: Fitted | None = None
    for model, chosen, predicted in _candidates(plan, train, val):
        found = Fitted(model=model, chosen=chosen, plan=plan, score=metric(val.values, predicted))
        if best is None or found.beats(best):
            best = found
    assert best is not None
    return best


def _candidates(plan: Plan, train: Labels, val: Labels) -> Iterable[Candidate]:
    """The strongest penalty first."""
    if plan.task == "multilabel":
        return _label_by_label(plan, train, val)
    if plan.task != "regression" and len(np.unique(train.values)) < 2:
        return _one_class(plan, train, val)
    kinds = {"attentive": _attentive, "knn": _neighbours}
    return kinds.get(plan.kind, _linear)(plan, train, val)


def _linear(plan: Plan, train: Labels, val: Labels) -> Iterator[Candidate]:
    path: list[Any]
    if plan.task == "regression":
        name, path = "alpha", ridge_path(train.rows, train.values)[::-1]
    else:
        kind: type[PenalisedClassifier] = OrdinalLogistic if plan.task == "ordinal" else BlockLogistic
        name, path = "C", penalty_path(kind, train.rows, train.values)
    for model in path:
        yield model, {name: float(getattr(model, name))}, _predictions_of(model, val.rows, plan)


def _neighbours(plan: Plan, train: Labels, val: Labels) -> Iterator[Candidate]:
    """One search serves every number of neighbours."""
    counts = [count for count in NEIGHBOURS if count <= len(train.rows)][::-1]
    task = "regression" if plan.task == "regression" else "classification"
    models = fit_neighbours(train.rows.everything(), train.values, task=task, counts=counts)
    found_VK = val.rows.map(models[0].neighbours)
    for model in models:
        predicted = mean_votes(model, found_VK[:, : model.n_neighbors])
        yield model, {"n_neighbors": float(model.n_neighbors)}, _over_classes(model, predicted, plan)


def _attentive(plan: Plan, train: Labels, val: Labels) -> Iterator[Candidate]:
    from echofm.estimators.attentive import LEARNING_RATES, WEIGHT_DECAYS, AttentiveClassifier, AttentiveRegressor

    grid = [{"weight_decay": decay, "lr": lr} for decay in WEIGHT_DECAYS[::-1] for lr in LEARNING_RATES]
    if plan.fixed is not None:
        grid = [{name: float(plan.fixed[name]) for name in ("weight_decay", "lr")}]
    kind: Any = AttentiveRegressor if plan.task == "regression" else AttentiveClassifier
    for setting in grid:
        model = kind(plan.tokens, random_state=plan.seed).set_params(**setting)
        model.fit_rows(train.rows, train.values, validation=val.rows, values_val=val.values)
        yield model, {**setting}, _predictions_of(model, val.rows, plan)


def _label_by_label(plan: Plan, train: Labels, val: Labels) -> Iterator[Candidate]:
    """Each label by itself, on the clips where it is known."""
    fits: list[Fitted] = []
    chosen: Chosen = {}
    for label in range(plan.classes):
        own = []
        for part in (train, val):
            known = np.flatnonzero(~np.isnan(part.values[:, label]))
            own.append(Labels(rows=part.rows.some(known), values=part.values[known, label].astype(np.int64)))
        mark = f"{label} "
        fixed = {name[len(mark) :]: value for name, value in (plan.fixed or {}).items() if name.startswith(mark)}
        single = replace(plan, task="classification", classes=2, fixed=fixed or None)
        fits.append(fit_best(single, *own))
        chosen |= {mark + name: value for name, value in fits[-1].chosen.items()}
    yield tuple(fits), chosen, _predictions_of(tuple(fits), val.rows, plan)


@dataclass(frozen=True, kw_only=True)
class OneClass:
    """What a probe predicts that has seen one class only."""

    classes_: npt.NDArray

    def predict_proba(self, X: npt.NDArray) -> npt.NDArray:
        return np.ones((len(X), 1))


def _one_class(plan: Plan, train: Labels, val: Labels) -> Iterator[Candidate]:
    model = OneClass(classes_=np.unique(train.values) if len(train.values) else np.array([0]))
    yield model, {}, _predictions_of(model, val.rows, plan)


def _predictions_of(model: Any, rows: Rows, plan: Plan) -> npt.NDArray:
    if isinstance(model, tuple):
        return np.stack([each.predict(rows)[:, 1] for each in model], 1)
    predicted = rows.map(model.predict if plan.task == "regression" else model.predict_proba)
    return _over_classes(model, predicted, plan)


def _over_classes(model: Any, predicted: npt.NDArray, plan: Plan) -> npt.NDArray:
    """Probabilities of all classes; a class that was not trained on has none."""
    if plan.task == "regression":
        return predicted
    whole = np.zeros((len(predicted), plan.classes))
    whole[:, model.classes_] = predicted
    return whole
