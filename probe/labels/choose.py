"""One fitted probe, its penalty chosen on validation patients.

Shapes: M training clips, V validation clips, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.estimators.logistic import BlockLogistic
from echofm.estimators.neighbours import NEIGHBOURS, fit_neighbours, mean_votes
from echofm.estimators.ordinal import OrdinalLogistic
from echofm.estimators.penalised import PenalisedClassifier, penalty_path
from echofm.estimators.ridge import ridge_path
from echofm.estimators.rows import Rows
from probe.labels.metrics import METRICS, better
from probe.labels.target import ClipTask
from probe.protocol import Chosen
from probe.result import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Rows and what is true of them. Of classes: numbers below `classes`."""

    rows: Rows
    values: npt.NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """model: gives values or probabilities of a clip. score: of the task's first metric on validation clips."""

    model: Any
    chosen: Chosen
    task: ClipTask
    classes: int
    score: float

    def beats(self, other: Fitted) -> bool:
        """Whether it is better on validation patients."""
        return better(next(iter(METRICS[self.task])), self.score, other.score)

    def predict(self, rows: Rows) -> npt.NDArray:
        """(N,) values or (N, K) probabilities, (N, L) of several labels."""
        if isinstance(self.model, tuple):
            return np.stack([each.predict(rows)[:, 1] for each in self.model], 1)
        return _predictions_of(self.model, rows, self.task, self.classes)


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


def fit_best(plan: Plan, train: Labels, val: Labels) -> Fitted:
    """The candidate that is best on validation patients, the strongest penalty among equals."""
    if plan.task == "multilabel":
        return _label_by_label(plan, train, val)
    metric = next(iter(METRICS[plan.task]))
    if plan.task != "regression" and len(np.unique(train.values)) < 2:
        return _fit_one_class(plan, train, val)
    best: Fitted | None = None
    for model, chosen, predicted in _candidates(plan, train, val):
        score = METRICS[plan.task][metric](val.values, predicted)
        if best is None or better(metric, score, best.score):
            best = Fitted(model=model, chosen=chosen, task=plan.task, classes=plan.classes, score=score)
    assert best is not None
    return best


def _candidates(plan: Plan, train: Labels, val: Labels) -> Iterable[tuple[Any, Chosen, npt.NDArray]]:
    """(model, its hyper-parameters, its predictions on the validation clips), the strongest penalty first."""
    if plan.kind == "attentive":
        yield from _attentive(plan, train, val)
    elif plan.kind == "knn":
        yield from _neighbours(plan, train, val)
    else:
        path: list[Any]
        if plan.task == "regression":
            path = ridge_path(train.rows, train.values)[::-1]
        else:
            kind: type[PenalisedClassifier] = OrdinalLogistic if plan.task == "ordinal" else BlockLogistic
            path = penalty_path(kind, train.rows, train.values)
        name = "alpha" if plan.task == "regression" else "C"
        for model in path:
            yield model, {name: float(getattr(model, name))}, _predictions_of(model, val.rows, plan.task, plan.classes)


def _neighbours(plan: Plan, train: Labels, val: Labels) -> Iterable[tuple[Any, Chosen, npt.NDArray]]:
    """One search serves every number of neighbours."""
    counts = [count for count in NEIGHBOURS if count <= len(train.rows)][::-1]
    task = "regression" if plan.task == "regression" else "classification"
    models = fit_neighbours(train.rows.everything(), train.values, task=task, counts=counts)
    found_VK = val.rows.map(models[0].neighbours)
    for model in models:
        predicted = mean_votes(model, found_VK[:, : model.n_neighbors])
        yield model, {"n_neighbors": float(model.n_neighbors)}, _over_classes(model, predicted, plan.task, plan.classes)


def _attentive(plan: Plan, train: Labels, val: Labels) -> Iterable[tuple[Any, Chosen, npt.NDArray]]:
    from echofm.estimators.attentive import LEARNING_RATES, WEIGHT_DECAYS, AttentiveClassifier, AttentiveRegressor

    grid = [{"weight_decay": decay, "lr": lr} for decay in WEIGHT_DECAYS[::-1] for lr in LEARNING_RATES]
    if plan.fixed is not None:
        grid = [{name: float(plan.fixed[name]) for name in ("weight_decay", "lr")}]
    for setting in grid:
        model: Any
        if plan.task == "regression":
            model = AttentiveRegressor(plan.tokens, random_state=plan.seed).set_params(**setting)
            model.fit_rows(train.rows, train.values, validation=val.rows, values_val=val.values)
        else:
            model = AttentiveClassifier(plan.tokens, random_state=plan.seed).set_params(**setting)
            model.fit_rows(train.rows, train.values, validation=val.rows, classes_val=val.values)
        yield model, {**setting}, _predictions_of(model, val.rows, plan.task, plan.classes)


def _label_by_label(plan: Plan, train: Labels, val: Labels) -> Fitted:
    """Each label by itself, on the clips where it is known."""
    fits: list[Fitted] = []
    chosen: Chosen = {}
    for label in range(plan.classes):
        known = [np.flatnonzero(~np.isnan(part.values[:, label])) for part in (train, val)]
        own = [
            Labels(rows=part.rows.some(index), values=part.values[index, label].astype(np.int64))
            for part, index in zip((train, val), known)
        ]
        fixed = None
        if plan.fixed is not None:
            mark = f"{label} "
            fixed = {name[len(mark) :]: value for name, value in plan.fixed.items() if name.startswith(mark)}
        single = Plan(
            kind=plan.kind, task="classification", classes=2, tokens=plan.tokens, seed=plan.seed, fixed=fixed or None
        )
        fits.append(fit_best(single, *own) if len(known[0]) else _fit_one_class(single, *own))
        chosen |= {f"{label} {name}": value for name, value in fits[-1].chosen.items()}
    metric = METRICS["multilabel"]["auroc"]
    found = Fitted(model=tuple(fits), chosen=chosen, task="multilabel", classes=plan.classes, score=np.nan)
    return Fitted(**{**found.__dict__, "score": metric(val.values, found.predict(val.rows))})


@dataclass(frozen=True, kw_only=True)
class _OneClass:
    """What a probe predicts that has seen one class only."""

    classes_: npt.NDArray

    def predict_proba(self, X: npt.NDArray) -> npt.NDArray:
        return np.ones((len(X), 1))


def _fit_one_class(plan: Plan, train: Labels, val: Labels) -> Fitted:
    model = _OneClass(classes_=np.unique(train.values) if len(train.values) else np.array([0]))
    metric = METRICS[plan.task][next(iter(METRICS[plan.task]))]
    found = Fitted(model=model, chosen={}, task=plan.task, classes=plan.classes, score=np.nan)
    score = metric(val.values, found.predict(val.rows)) if len(val.values) else np.nan
    return Fitted(**{**found.__dict__, "score": score})


def _predictions_of(model: Any, rows: Rows, task: ClipTask, classes: int) -> npt.NDArray:
    predicted = rows.map(model.predict if task == "regression" else model.predict_proba)
    return _over_classes(model, predicted, task, classes)


def _over_classes(model: Any, predicted: npt.NDArray, task: ClipTask, classes: int) -> npt.NDArray:
    """Probabilities of all classes; a class that was not trained on has none."""
    if task == "regression":
        return predicted
    whole = np.zeros((len(predicted), classes))
    whole[:, model.classes_] = predicted
    return whole
