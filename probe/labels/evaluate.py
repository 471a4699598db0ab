"""evaluate: what a frozen encoder's features tell about a label of a clip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.labels.answers import truth_of
from probe.labels.features import Features
from probe.labels.fitting import LabelProtocol
from probe.labels.folds import folds as dealt
from probe.labels.folds import require_folds, whole
from probe.labels.target import ClipTask, Target, read_goal, read_target
from probe.partition import Partition
from probe.protocol import require_request
from probe.result import Kind, Probed


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
    perturbed: Mapping[str, Mapping[str, EmbeddingTable]] | None = None,
    test_clips: Collection[str] | None = None,
    cross_validate: int | None = None,
    reduce: Collection[str] = (),
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> Probed:
    """What a frozen encoder's features tell about a label of a clip.

    target: a label, `view` or `kind`; `a+b` probes several 0/1 labels. task, order: see `read_target`.
    kind: "linear" (ridge, logistic or cumulative logit), "knn" (cosine neighbours) or "attentive" (one learned query
        over a clip's tokens). Penalties are chosen on validation patients, by the first of the task's metrics.
    features: what is read of a clip, see `feature_choices`; "auto" chooses on validation patients.
    label_fractions: parts of the training patients whose labels are used, each drawn `seeds` times; of every method.
    baselines: tables of other encoders over the same clips (random init, pixel PCA); differences are bootstrapped in
        pairs.
    perturbed: by name of a perturbation and method ("probe", or a baseline's), tables whose test clips are perturbed.
    test_clips: ids of the clips to test on, another hospital's: `evaluate(EmbeddingTable.concat([ours, theirs]), ...,
        test_clips=theirs.clip_id)`. Fitted and chosen is on the others, as `probe.partition.partition` says.
    cross_validate: folds of patients; every clip is tested, in `seeds` repeats (`probe.labels.folds`).
    reduce: names of baselines of which the training patients' principal components are read (`probe.baselines`).
    advance: called after each of `fits_of` fits with a note, for a progress bar.
    Raises EchofmError on a target, split or baseline that does not fit, and on a patient in two splits.
    """
    if not label_fractions or not all(0 < fraction <= 1 for fraction in label_fractions):
        raise EchofmError(f"label fractions {tuple(label_fractions)} must lie above 0 and at most at 1")
    require_clip_kind(kind)
    require_request(baselines, seed=seed, seeds=seeds, draws=draws)
    asked: dict[str, Any] = {"task": task, "order": order, "test_clips": test_clips, "seed": seed}
    goal, part, rounds = _parted(table, target, folds=cross_validate, repeats=seeds, **asked)
    protocol = LabelProtocol(
        table=table,
        goal=goal,
        part=part,
        truth=truth_of(table, goal, part),
        kind=kind,
        features=features,
        fractions=tuple(sorted({*label_fractions} - {1.0}, reverse=True)),
        seeds=seeds,
        rounds=rounds,
        reduce=frozenset(reduce),
        draws=draws,
        seed=seed,
        advance=advance,
    )
    return protocol.probe(table, baselines, perturbed)


def _parted(
    table: EmbeddingTable, target: str, *, folds: int | None, repeats: int, test_clips: Any, seed: int, **asked: Any
) -> tuple[Target, Partition, list[list[Partition]] | None]:
    """The target, what is tested, and of a cross-validation its folds."""
    if folds is None:
        return *read_goal(table, target, test_clips=test_clips, seed=seed, **asked), None
    require_folds(folds, test_clips=test_clips)
    goal = read_target(table, target, **asked)
    rounds = dealt(table, goal, count=folds, repeats=repeats, seed=seed)
    return goal, whole(rounds, goal), rounds


def require_clip_kind(kind: Kind) -> None:
    """Raises EchofmError on a probe that cannot read a clip's label."""
    if kind == "upsampling":
        raise EchofmError("an up-sampling head is for segmentation; probe a clip's label by linear, attentive or knn")


def fits_of(
    *,
    kind: Kind,
    label_fractions: Sequence[float],
    seeds: int,
    baselines: int = 0,
    perturbed: int = 0,
    cross_validate: int | None = None,
) -> int:
    """How many times `evaluate` calls `advance`."""
    full = seeds if kind == "attentive" or cross_validate is not None else 1
    fewer = seeds * len({*label_fractions} - {1.0})
    return (full * (1 + perturbed) + fewer) * (cross_validate or 1) * (1 + baselines)
