"""evaluate: fit on training patients, choose on validation patients, look at test patients once.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.blocks import Rows
from probe.choose import Chosen, Fitted, Labels, Plan, fit_best
from probe.constant import CONSTANT, constant
from probe.features import Features, Matrix, feature_choices, read_features
from probe.measure import Key, Redrawn, Sample, averaged, by_patient
from probe.metrics import METRICS, Metric, average_precision, auroc, of_label
from probe.near_duplicates import check_split
from probe.partition import Partition, partition, some_patients
from probe.result import Check, Comparison, Kind, Level, Probed, ProbeResult, SanityFigures, Score
from probe.sanity import check_embedding
from probe.subgroups import COLUMNS, subgroups
from probe.target import ClipTask, Target, read_target


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
    rivals: Mapping[str, EmbeddingTable] | None = None,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What a frozen encoder's features tell about a label of a clip.

    target: a label, `view` or `kind`; `a+b` probes several 0/1 labels at once. task, order: see `read_target`.
    kind: "linear" (ridge, logistic or cumulative logit), "knn" (cosine neighbours) or "attentive" (one learned query
        over a clip's tokens). Penalties are chosen on validation patients, by the first of the task's metrics.
    features: what is read of a clip, see `feature_choices`; "auto" chooses on validation patients.
    label_fractions: parts of the training patients whose labels are used, each drawn `seeds` times.
    rivals: tables of other encoders over the same clips (a random-init twin, pixel PCA); differences are bootstrapped
        in pairs. advance: called after each of `fits_of` fits with a note, for a progress bar.
    Raises EchofmError on a target, split or rival that does not fit, and on a patient in two splits.
    """
    if not label_fractions or not all(0 < fraction <= 1 for fraction in label_fractions):
        raise EchofmError(f"label fractions {tuple(label_fractions)} must lie above 0 and at most at 1")
    if kind == "upsampling":
        raise EchofmError("an up-sampling head is for segmentation; probe a clip's label by linear, attentive or knn")
    goal = read_target(table, target, task=task, order=order)
    part = partition(table, goal.rows_M, seed=seed)
    bench = _Bench(goal=goal, part=part, kind=kind, features=features, seeds=seeds, seed=seed, advance=advance)
    judge = _Judge(table=table, goal=goal, part=part, draws=draws, seed=seed)
    for fraction in sorted({*label_fractions, 1.0}, reverse=True):
        said = bench.predict("probe", table, fraction=fraction)
        judge.hear("probe", said, fraction=fraction)
        best = said if fraction == 1.0 else best
    judge.hear(CONSTANT[goal.task], constant(goal, part), fraction=1.0)
    for name, rival in (rivals or {}).items():
        judge.hear(name, bench.predict(name, _matched(rival, table, name), fraction=1.0), fraction=1.0)
    result = ProbeResult(
        target=target,
        task=goal.task,
        kind=kind,
        features=str(bench.chosen["probe"]["features"]),
        classes=list(goal.classes),
        encoder_digest=table.encoder_digest,
        splits_from=part.source,
        clips={name: len(getattr(part, name)) for name in ("train", "val", "test")},
        patients={name: len(set(table.patient_id[getattr(part, name)])) for name in ("train", "val", "test")},
        seeds=seeds,
        chosen=bench.chosen,
        sanity=_with_check(sanity_figures(table), check_split(table, part, seed=seed)),
        scores=judge.scores,
        comparisons=judge.comparisons(),
        subgroups=judge.subgroups(best),
        notes=bench.notes,
    )
    return Probed(result=result, predictions=_frame(table, goal, part, best))


def fits_of(*, kind: Kind, label_fractions: Sequence[float], seeds: int, rivals: int = 0) -> int:
    """How many times `evaluate` calls `advance`."""
    whole = seeds if kind == "attentive" else 1
    return whole * (1 + rivals) + seeds * len({*label_fractions} - {1.0})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bench:
    """One target and partition, on which every encoder is fitted alike."""

    goal: Target
    part: Partition
    kind: Kind
    features: Features
    seeds: int
    seed: int
    advance: Callable[[str], None]
    chosen: dict[str, Chosen] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def predict(self, method: str, table: EmbeddingTable, *, fraction: float) -> npt.NDArray:
        """(N, S[, K]) test predictions. With all labels nothing is drawn: S = 1 unless the fit itself is random."""
        said, one_class = [], 0
        matrices = self._matrices(method, table)
        numbers = range(self.seeds if fraction < 1 or self.kind == "attentive" else 1)
        for number in numbers:
            rows = some_patients(table, self.part.train, fraction=fraction, seed=self.seed + number)
            values = self.goal.of(rows)
            one_class += int(self.goal.task in ("classification", "ordinal") and len(np.unique(values)) < 2)
            # Attentive fits of other seeds take over what the first has chosen: a grid for each would cost hours.
            fixed = self.chosen.get(method) if number and fraction == 1.0 else None
            name, fitted = self._best(matrices, rows, number=number, fixed=fixed)
            said.append(fitted.said(Rows(features_ND=matrices[name].values_NF, index_M=self.part.test)))
            if number == 0 and fraction == 1.0:
                self.chosen[method] = {"features": name, **fitted.chosen}
            self.advance(f"{fraction:.0%} of the labels")
        if one_class:
            self.notes.append(
                f"{one_class} of {len(numbers)} draws of {fraction:.0%} of the training patients hold one class only; "
                "the probe says that class"
            )
        return np.stack(said, 1)

    def _matrices(self, method: str, table: EmbeddingTable) -> dict[str, Matrix]:
        features = self.features
        if method != "probe" and features not in ("auto", *feature_choices(table, "auto", kind=self.kind)):
            self.notes.append(f"{method} has no features {features!r}; it is probed on what it has")
            features = "auto"
        return {
            name: read_features(table, name, kind=self.kind, train=self.part.train)
            for name in feature_choices(table, features, kind=self.kind)
        }

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judge:
    """Every method's predictions against the truth of the same test clips, under the same redrawn patients."""

    table: EmbeddingTable
    goal: Target
    part: Partition
    draws: int
    seed: int
    scores: list[Score] = field(default_factory=list)
    heard: dict[tuple[str, Level], dict[Key, Redrawn]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[Key, Metric]:
        found: dict[Key, Metric] = {(name, ""): metric for name, metric in METRICS[self.goal.task].items()}
        if self.goal.task == "multilabel":
            for number, label in enumerate(self.goal.classes):
                found["auroc", label] = of_label(auroc, number)
                found["average_precision", label] = of_label(average_precision, number)
        return found

    @property
    def sample(self) -> Sample:
        return Sample(
            truth_N=self.goal.of(self.part.test),
            patients_N=self.table.patient_id[self.part.test].astype(str),
            draws=self.draws,
            seed=self.seed,
        )

    def hear(self, method: str, said: npt.NDArray, *, fraction: float) -> None:
        """Take down every metric by clip and, where the label is the patient's own, by patient."""
        sample = self.sample
        measured: dict[Level, dict[Key, Redrawn]] = {"clip": sample.measure(self.metrics, said)}
        grouped = by_patient(sample.truth_N, sample.patients_N)
        if grouped is not None:
            rows_of, truth = grouped
            patients = np.unique(sample.patients_N)
            whole = Sample(truth_N=truth, patients_N=patients, draws=self.draws, seed=self.seed)
            measured["patient"] = whole.measure(self.metrics, averaged(said, rows_of))
        for level, found in measured.items():
            if fraction == 1.0:
                self.heard[method, level] = found
            self.scores.extend(
                Score(
                    method=method, label_fraction=fraction, level=level, metric=name, of=of, estimate=each.estimate
                )
                for (name, of), each in found.items()
            )

    def comparisons(self) -> list[Comparison]:
        """The probe minus every other method, with all labels."""
        return [
            Comparison(rival=method, metric=name, level=level, difference=self.heard["probe", level][name, of].minus(each))
            for (method, level), found in self.heard.items()
            if method != "probe"
            for (name, of), each in found.items()
            if not of
        ]

    def subgroups(self, said: npt.NDArray):  # type: ignore[no-untyped-def]
        """The probe's own, with all labels; the target itself is no group of a class."""
        columns = [name for name in COLUMNS if self.goal.task == "regression" or name != self.goal.name]
        return subgroups(self.table.rows.iloc[self.part.test], self.sample, said, self.metrics, columns=columns)


def _frame(table: EmbeddingTable, goal: Target, part: Partition, said: npt.NDArray) -> pd.DataFrame:
    """Test predictions, a row per clip."""
    truth, mean = goal.of(part.test), said.mean(1)
    columns: dict[str, npt.NDArray] = {"clip_id": table.clip_id[part.test], "patient_id": table.patient_id[part.test]}
    if goal.task == "regression":
        columns |= {"true": truth, "predicted": mean}
    elif goal.task == "multilabel":
        columns |= {f"true_{name}": truth[:, number] for number, name in enumerate(goal.classes)}
    else:
        from probe.ordinal import median_level

        names = np.array(goal.classes)
        answer = median_level(mean) if goal.task == "ordinal" else mean.argmax(1)
        columns |= {"true": names[truth], "predicted": names[answer]}
    columns |= {f"probability_{name}": mean[:, number] for number, name in enumerate(goal.classes)}
    return pd.DataFrame(columns)


def sanity_figures(table: EmbeddingTable) -> SanityFigures:
    """`check_embedding` as a result holds it."""
    found = check_embedding(table)
    return SanityFigures(
        rankme=found.rankme,
        spread=found.spread,
        within_patient=None if math.isnan(found.within_patient) else found.within_patient,
        between_patients=None if math.isnan(found.between_patients) else found.between_patients,
        problems=list(found.problems),
    )


def _with_check(found: SanityFigures, check: Check) -> SanityFigures:
    problems = [*found.problems, *([check.says] if check.passed is False else [])]
    return found.model_copy(update={"problems": problems, "checks": [*found.checks, check]})


def _matched(rival: EmbeddingTable, table: EmbeddingTable, name: str) -> EmbeddingTable:
    """The rival's rows in the order of the table's clips."""
    place = pd.Index(rival.rows["clip_id"]).get_indexer(table.rows["clip_id"])
    if (place < 0).any():
        raise EchofmError(
            f"{int((place < 0).sum())} clips are not in the table of {name!r}; embed the same data with both encoders"
        )
    return rival.select(place)
