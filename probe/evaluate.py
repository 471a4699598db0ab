"""evaluate: fit on training patients, choose on validation patients, look at test patients once.

Shapes: N test clips, S seeds, K classes or labels. Predictions are (N, S) values or (N, S, K) probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from echofm.estimators.rows import Rows
from probe.choose import Chosen, Fitted, Labels, Plan, fit_best
from probe.constant import CONSTANT, constant
from probe.counts import require_counts
from probe.features import Features, Matrix, feature_choices, read_features
from probe.judge import Judge, prediction_frame
from probe.near_duplicates import check_split
from probe.partition import Partition, partition, some_patients
from probe.result import Check, Kind, Probed, ProbeResult, SanityFigures
from probe.rivals import require_free_names
from probe.sanity import check_embedding
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
    test_clips: Collection[str] | None = None,
    seed: int = 0,
    sanity: SanityFigures | None = None,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What a frozen encoder's features tell about a label of a clip.

    target: a label, `view` or `kind`; `a+b` probes several 0/1 labels at once. task, order: see `read_target`.
    kind: "linear" (ridge, logistic or cumulative logit), "knn" (cosine neighbours) or "attentive" (one learned query
        over a clip's tokens). Penalties are chosen on validation patients, by the first of the task's metrics.
    features: what is read of a clip, see `feature_choices`; "auto" chooses on validation patients.
    label_fractions: parts of the training patients whose labels are used, each drawn `seeds` times.
    rivals: tables of other encoders over the same clips (a random-init twin, pixel PCA); differences are bootstrapped
        in pairs.
    test_clips: ids of the clips to test on, another hospital's: `evaluate(EmbeddingTable.concat([ours, theirs]), ...,
        test_clips=theirs.clip_id)`. Fitted and chosen is on the others, as `probe.partition.partition` says.
    sanity: what is known of the embedding already; near-duplicates across the split are looked for in any case.
    advance: called after each of `fits_of` fits with a note, for a progress bar.
    Raises EchofmError on a target, split or rival that does not fit, on one of several labels that no training or no
    validation clip has, on another set to test on that has none of the training clips' classes, and on a patient in
    two splits.
    """
    if not label_fractions or not all(0 < fraction <= 1 for fraction in label_fractions):
        raise EchofmError(f"label fractions {tuple(label_fractions)} must lie above 0 and at most at 1")
    require_clip_kind(kind)
    require_counts(seeds=seeds, draws=draws)
    require_free_names(rivals or ())
    goal = read_target(table, target, task=task, order=order)
    part = partition(table, goal.rows_M, seed=seed, test_clips=test_clips)
    if test_clips is not None:
        goal.require_shared(train=part.train, test=part.test)
    goal.require_known(training=part.train, validation=part.val)
    bench = _Bench(goal=goal, part=part, kind=kind, features=features, seeds=seeds, seed=seed, advance=advance)
    judge = Judge(table=table, goal=goal, part=part, draws=draws, seed=seed)
    best = bench.predict("probe", table, fraction=1.0)
    judge.hear("probe", best, fraction=1.0)
    for fraction in sorted({*label_fractions} - {1.0}, reverse=True):
        judge.hear("probe", bench.predict("probe", table, fraction=fraction), fraction=fraction)
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
        clips=part.clips(),
        patients=part.patients(table),
        seeds=seeds,
        chosen=bench.chosen,
        sanity=_with_check(sanity or sanity_figures(table), check_split(table, part, seed=seed)),
        scores=judge.scores,
        comparisons=judge.comparisons(),
        subgroups=judge.subgroups(best),
        notes=[*part.notes, *_class_notes(goal, part), *bench.notes],
    )
    return Probed(result=result, predictions=prediction_frame(table, goal, part, best))


def require_clip_kind(kind: Kind) -> None:
    """Raises EchofmError on a probe that cannot read a clip's label."""
    if kind == "upsampling":
        raise EchofmError("an up-sampling head is for segmentation; probe a clip's label by linear, attentive or knn")


def fits_of(*, kind: Kind, label_fractions: Sequence[float], seeds: int, rivals: int = 0) -> int:
    """How many times `evaluate` calls `advance`."""
    whole = seeds if kind == "attentive" else 1
    return whole * (1 + rivals) + seeds * len({*label_fractions} - {1.0})


def _class_notes(goal: Target, part: Partition) -> list[str]:
    """Classes and labels of which the clips of a split tell nothing."""
    if goal.task == "regression":
        return []
    several, notes = goal.task == "multilabel", []
    if goal.left_out:
        notes.append(f"{', '.join(goal.left_out)}: the same in every clip that has it, and not probed")
    if untold := ", ".join(goal.lacking(part.train)):
        same = f"{untold}: the same in all training clips that have it, and the probe says nothing else"
        notes.append(same if several else f"no training clip is {untold}: the probe cannot say it")
    if unjudged := ", ".join(goal.lacking(part.val)):
        same = f"{unjudged}: the same in all validation clips that have it"
        notes.append(f"{same if several else f'no validation clip is {unjudged}'}: nothing was chosen by it")
    if unseen := ", ".join(goal.lacking(part.test)):
        same = f"{unseen}: the same in all test clips that have it; without figures, and the means leave it out"
        lost = ", and AUROC and average precision are not defined" if goal.task == "classification" else ""
        notes.append(same if several else f"no test clip is {unseen}: how well it is told is not known{lost}")
    return notes


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
        said, one_class, part = [], 0, f"{100 * fraction:.3g}%"
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
            self.advance(f"{part} of the labels")
        if one_class:
            self.notes.append(
                f"{one_class} of {len(numbers)} draws of {part} of the training patients hold one class only; the "
                "probe says that class"
            )
        return np.stack(said, 1)

    def _matrices(self, method: str, table: EmbeddingTable) -> dict[str, Matrix]:
        """What is tried of a table. A rival that lacks what was asked for is probed on what it has."""
        if method == "probe":
            names = feature_choices(table, self.features, kind=self.kind)
        elif self.kind == "attentive" and table.phase is None and table.tokens is None:
            names = ("video",)
            self._tell(f"{method} has no tokens: the attentive probe reads its one vector")
        else:
            offered = feature_choices(table, "auto", kind=self.kind)
            there = self.features in offered or self.features == "auto"
            names = feature_choices(table, self.features if there else "auto", kind=self.kind)
            if not there:
                self._tell(f"{method} has no features {self.features!r}: it is probed on {', '.join(offered)}")
        return {name: read_features(table, name, kind=self.kind, train=self.part.train) for name in names}

    def _tell(self, note: str) -> None:
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
    # Rows in the table's order already stay where they are, mapped from disk perhaps.
    return rival if np.array_equal(place, np.arange(len(rival))) else rival.select(place)
