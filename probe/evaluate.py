"""evaluate: fit on training patients, choose on validation patients, look at test patients once.

Shapes: N test clips, S seeds, K classes. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.intervals import Estimate, patient_bootstrap, rows_by_patient
from probe.linear import fit_logistic, fit_ridge
from probe.metrics import CLASSIFICATION, REGRESSION, Metric, better
from probe.neighbours import fit_neighbours
from probe.partition import Partition, partition, some_patients
from probe.result import Comparison, Kind, Probed, ProbeResult, SanityFigures, Score
from probe.sanity import check_embedding
from probe.target import Target, Task, read_target


def evaluate(
    table: EmbeddingTable,
    *,
    target: str,
    kind: Kind = "linear",
    task: Task | None = None,
    label_fractions: Sequence[float] = (1.0,),
    seeds: int = 5,
    draws: int = 1000,
    rivals: Mapping[str, EmbeddingTable] | None = None,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What a frozen encoder's clip features tell about a label.

    kind: "linear" (ridge or logistic) or "knn" (cosine neighbours); the penalty or number of neighbours is chosen on
        validation patients by mean absolute error or balanced accuracy.
    label_fractions: parts of the training patients whose labels are used, each drawn `seeds` times.
    rivals: tables of other encoders over the same clips; differences are bootstrapped in pairs.
    advance: called after each fit with a note, for a progress bar.
    Raises EchofmError on a target, split or rival that does not fit.
    """
    if not label_fractions or not all(0 < fraction <= 1 for fraction in label_fractions):
        raise EchofmError(f"label fractions {tuple(label_fractions)} must lie above 0 and at most at 1")
    goal = read_target(table, target, task=task)
    part = partition(table, goal.rows_M, seed=seed)
    bench = _Bench(table=table, goal=goal, part=part, kind=kind, draws=draws, seed=seed)
    scores: list[Score] = []
    for fraction in sorted({*label_fractions, 1.0}, reverse=True):
        said, chosen = bench.predict(table, fraction=fraction, seeds=seeds, advance=advance)
        if fraction == 1.0:
            best, own_choice = said, chosen
        scores += bench.scores("probe", said, fraction=fraction)
    choices = {"probe": own_choice}
    scores += bench.scores("mean" if goal.task == "regression" else "majority", bench.constant(), fraction=1.0)
    comparisons: list[Comparison] = []
    for name, rival in (rivals or {}).items():
        said, choices[name] = bench.predict(_matched(rival, table, name), fraction=1.0, seeds=seeds, advance=advance)
        scores += bench.scores(name, said, fraction=1.0)
        comparisons += bench.compare(name, best, said)
    result = ProbeResult(
        target=target,
        task=goal.task,
        kind=kind,
        classes=list(goal.classes),
        encoder_digest=table.encoder_digest,
        splits_from=part.source,
        clips={name: len(getattr(part, name)) for name in ("train", "val", "test")},
        patients={name: len(set(table.patient_id[getattr(part, name)])) for name in ("train", "val", "test")},
        seeds=seeds,
        chosen=choices,
        sanity=sanity_figures(table),
        scores=scores,
        comparisons=comparisons,
    )
    return Probed(result=result, predictions=bench.frame(best))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One target and partition, on which every method is measured alike."""

    table: EmbeddingTable
    goal: Target
    part: Partition
    kind: Kind
    draws: int
    seed: int

    @property
    def metrics(self) -> dict[str, Metric]:
        return REGRESSION if self.goal.task == "regression" else CLASSIFICATION

    @property
    def truth(self) -> npt.NDArray:
        return self.values(self.part.test)

    @property
    def patients(self) -> npt.NDArray[np.str_]:
        return self.table.patient_id[self.part.test].astype(str)

    def values(self, rows: npt.NDArray[np.int64]) -> npt.NDArray:
        return self.goal.values_M[np.searchsorted(self.goal.rows_M, rows)]

    def predict(
        self, table: EmbeddingTable, *, fraction: float, seeds: int, advance: Callable[[str], None]
    ) -> tuple[npt.NDArray, dict[str, float | str]]:
        """(N, S[, K]) test predictions, the first seed's hyper-parameter. With all labels nothing is drawn: S = 1."""
        predictions, choices = [], []
        for number in range(1 if fraction == 1.0 else seeds):
            rows = some_patients(table, self.part.train, fraction=fraction, seed=self.seed + number)
            model, choice = self._fit(table, rows)
            predictions.append(self._said(model, table.video_ND[self.part.test]))
            choices.append(choice)
            advance(f"{fraction:.0%} of the labels")
        return np.stack(predictions, 1), choices[0]

    def _fit(self, table: EmbeddingTable, rows: npt.NDArray[np.int64]) -> tuple[Any, dict[str, float | str]]:
        X, y = np.asarray(table.video_ND[rows]), self.values(rows)
        if self.goal.task == "classification" and len(np.unique(y)) < 2:
            raise EchofmError(
                f"the training patients drawn have one class of {self.goal.name!r} only; use a larger --label-fractions"
            )
        if self.kind == "knn":
            models = fit_neighbours(X, y, task=self.goal.task)
        else:
            models = fit_ridge(X, y) if self.goal.task == "regression" else fit_logistic(X, y)
        name, metric = next(iter(self.metrics.items()))
        truth, features = self.values(self.part.val), table.video_ND[self.part.val]
        found = [metric(truth, self._said(model, features)) for model in models]
        place = 0
        for index, value in enumerate(found):
            if better(name, value, found[place]):
                place = index
        return models[place], _hyper_parameter(models[place])

    def _said(self, model: Any, features_ND: npt.NDArray) -> npt.NDArray:
        if self.goal.task == "regression":
            return model.predict(features_ND)
        said = np.zeros((len(features_ND), len(self.goal.classes)))
        said[:, model.classes_] = model.predict_proba(features_ND)
        return said

    def constant(self) -> npt.NDArray:
        """What a predictor without features says: the training mean, or the commonest class."""
        values = self.values(self.part.train)
        if self.goal.task == "regression":
            return np.full((len(self.part.test), 1), values.mean())
        said = np.zeros((len(self.part.test), 1, len(self.goal.classes)))
        said[..., np.bincount(values).argmax()] = 1
        return said

    def scores(self, method: str, said: npt.NDArray, *, fraction: float) -> list[Score]:
        """Every metric by clip and, where the label is the patient's own, by patient."""
        levels = {"clip": (self.truth, said, self.patients), "patient": self._by_patient(said)}
        return [
            Score(
                method=method,
                label_fraction=fraction,
                level=level,  # type: ignore[arg-type]
                metric=name,
                estimate=self._estimate(lambda test, metric=metric: _over_seeds(metric, test[0], test[1]), *values),
            )
            for level, values in levels.items()
            if values is not None
            for name, metric in self.metrics.items()
        ]

    def compare(self, rival: str, ours: npt.NDArray, theirs: npt.NDArray) -> list[Comparison]:
        """Paired differences at clip level."""
        rows = np.arange(len(self.truth))

        def difference(metric: Metric, chosen: npt.NDArray) -> float:
            own, other = (_over_seeds(metric, self.truth[chosen], said[chosen]) for said in (ours, theirs))
            return own - other

        found = {
            name: patient_bootstrap(
                lambda test, metric=metric: difference(metric, test),
                {"test": (rows, self.patients)},
                draws=self.draws,
                seed=self.seed,
            )
            for name, metric in self.metrics.items()
        }
        return [Comparison(rival=rival, metric=name, difference=each) for name, each in found.items()]

    def frame(self, said: npt.NDArray) -> pd.DataFrame:
        """Test predictions, a row per clip."""
        mean = said.mean(1)
        columns: dict[str, Any] = {"clip_id": self.table.clip_id[self.part.test], "patient_id": self.patients}
        if self.goal.task == "regression":
            return pd.DataFrame(columns | {"true": self.truth, "predicted": mean})
        names = np.array(self.goal.classes)
        columns |= {"true": names[self.truth], "predicted": names[mean.argmax(1)]}
        columns |= {f"probability_{name}": mean[:, number] for number, name in enumerate(names)}
        return pd.DataFrame(columns)

    def _by_patient(self, said: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray[np.str_]] | None:
        clips_of = rows_by_patient(self.patients)
        if len(clips_of) == len(self.truth) or any(np.ptp(self.truth[rows]) > 0 for rows in clips_of):
            return None
        truth = np.array([self.truth[rows[0]] for rows in clips_of])
        return truth, np.stack([said[rows].mean(0) for rows in clips_of]), np.unique(self.patients)

    def _estimate(
        self, statistic: Callable[..., float], truth: npt.NDArray, said: npt.NDArray, patients: npt.NDArray[np.str_]
    ) -> Estimate:
        rows = np.arange(len(truth))
        return patient_bootstrap(
            lambda test: statistic((truth[test], said[test])),
            {"test": (rows, patients)},
            draws=self.draws,
            seed=self.seed,
        )


def _over_seeds(metric: Metric, truth: npt.NDArray, said: npt.NDArray) -> float:
    return float(np.mean([metric(truth, said[:, number]) for number in range(said.shape[1])]))


def _hyper_parameter(model: Any) -> dict[str, float | str]:
    for name in ("alpha", "n_neighbors"):
        if hasattr(model, name):
            return {name: float(getattr(model, name))}
    return {"C": float(model[-1].C)}


def _matched(rival: EmbeddingTable, table: EmbeddingTable, name: str) -> EmbeddingTable:
    """The rival's rows in the order of the table's clips."""
    place = pd.Index(rival.rows["clip_id"]).get_indexer(table.rows["clip_id"])
    if (place < 0).any():
        raise EchofmError(
            f"{int((place < 0).sum())} clips are not in the table of {name!r}; embed the same data with both encoders"
        )
    return rival.select(place)


def sanity_figures(table: EmbeddingTable) -> SanityFigures:
    found = check_embedding(table)
    return SanityFigures(
        rankme=found.rankme,
        spread=found.spread,
        within_patient=None if math.isnan(found.within_patient) else found.within_patient,
        between_patients=None if math.isnan(found.between_patients) else found.between_patients,
        problems=list(found.problems),
    )
