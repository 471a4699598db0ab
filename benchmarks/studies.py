"""Ejection fraction of a patient from two clips of different views: by their mean, by a line, by attention.

    OMP_NUM_THREADS=1 python -m benchmarks.studies ENCODER SHARDS [--untrained]     # shards of two clips a patient

P patients, two clips each in the order of their views. Everything is fitted on training patients and chosen on
validation patients; R2 is of test patients, with intervals over them, and differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import tyro
from sklearn.decomposition import PCA

from benchmarks.objectives import shown, table_of
from echofm.backbones import open_encoder, random_spec
from echofm.embed.table import EmbeddingTable
from echofm.estimators.attentive import LEARNING_RATES, WEIGHT_DECAYS, AttentiveRegressor
from echofm.estimators.rows import Rows
from echofm.intervals import estimate, patient_weights
from probe.labels.choose import Fitted, Labels, Plan, fit_best
from probe.labels.features import feature_choices, read_features
from probe.labels.target import read_goal
from probe.partition import Partition

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
_CLIPS, _COMPONENTS, _SEEDS, _DRAWS = 2, 64, (0, 1), 1000
MEAN, LINE = "mean of clip predictions", "the same, after a line"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Pool the clips of a patient."""

    encoder: tyro.conf.Positional[Path]
    """An export."""
    shards: tyro.conf.Positional[Path]
    """With ejection fraction; patients with another number of clips than two are left out."""
    untrained: bool = False
    """The encoder's architecture at random weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Patients:
    """What is known of each: (P, 2) rows of its clips, their views; (P,) ejection fraction; which train, val, test."""

    row_P2: Indices
    view_N: npt.NDArray[np.str_]
    ef_P: Floats
    train: Indices
    val: Indices
    test: Indices


def two_clips_each(table: EmbeddingTable) -> EmbeddingTable:
    """The patients of two clips."""
    _, which_N, count = np.unique(table.patient_id.astype(str), return_inverse=True, return_counts=True)
    return table.select(count[which_N] == _CLIPS)


def patients_of(table: EmbeddingTable, part: Partition) -> Patients:
    """Clips by patient, in the order of their views' names."""
    view_N = np.asarray(table.view).astype(str)
    _, who_N = np.unique(table.patient_id.astype(str), return_inverse=True)
    row_P2 = np.lexsort((view_N, who_N)).reshape(-1, _CLIPS)
    ef_P = table.rows["ef_percent"].to_numpy(np.float64)[row_P2[:, 0]]
    train, val, test = (np.unique(who_N[index]) for index in (part.train, part.val, part.test))
    return Patients(row_P2=row_P2, view_N=view_N, ef_P=ef_P, train=train, val=val, test=test)


def clip_probe(table: EmbeddingTable) -> tuple[Fitted, Floats, Partition]:
    """What `echofm probe` fits (features `auto`), the features it reads, and the partition."""
    goal, part = read_goal(table, "ef_percent")
    best: tuple[Fitted, Floats] | None = None
    for name in feature_choices(table, "auto", kind="linear"):
        values_NF = read_features(table, name, kind="linear", train=part.train).values_NF
        train, val = (
            Labels(rows=Rows(features_ND=values_NF, index_M=index), values=goal.of(index))
            for index in (part.train, part.val)
        )
        fitted = fit_best(Plan(kind="linear", task="regression", classes=0, tokens=1, seed=0), train, val)
        if best is None or fitted.beats(best[0]):
            best = fitted, values_NF
    assert best is not None
    return *best, part


def by_attention(feature_NF: Floats, patients: Patients, *, scale: float) -> Iterator[tuple[str, Floats]]:
    """Of test patients, a seed at a time: from both clips, and with either one missing."""
    view_NV = (patients.view_N[:, None] == np.unique(patients.view_N)).astype(np.float64)
    token_P2D = np.concatenate([feature_NF / scale, view_NV], 1)[patients.row_P2].astype(np.float32)
    flat = token_P2D.reshape(len(token_P2D), -1)

    def fitted(seed: int, **chosen: float) -> AttentiveRegressor:
        model = AttentiveRegressor(_CLIPS, random_state=seed).set_params(**chosen)
        train, val = (Rows(features_ND=flat, index_M=index) for index in (patients.train, patients.val))
        ef_P = patients.ef_P
        return model.fit_rows(train, ef_P[patients.train], validation=val, values_val=ef_P[patients.val])

    def error(model: AttentiveRegressor) -> float:
        return float(np.abs(model.predict(flat[patients.val]) - patients.ef_P[patients.val]).mean())

    grid = [{"weight_decay": decay, "lr": rate} for decay in WEIGHT_DECAYS[::-1] for rate in LEARNING_RATES]
    chosen = min(grid, key=lambda each: error(fitted(0, **each)))
    for seed in _SEEDS:
        model = fitted(seed, **chosen)
        yield f"seed {seed}", model.predict(flat[patients.test])
        for clip in range(_CLIPS):
            without = token_P2D[patients.test].copy()
            without[:, clip] = np.nan
            yield f"seed {seed}, without clip {clip + 1}", model.predict(without.reshape(len(without), -1))


def predictions(table: EmbeddingTable) -> tuple[dict[str, Floats], Patients]:
    """Of test patients, by method."""
    fitted, value_NF, part = clip_probe(table)
    patients = patients_of(table, part)
    clip_N = fitted.predict(Rows(features_ND=value_NF))
    clip_P2, ef_N = clip_N[patients.row_P2], table.rows["ef_percent"].to_numpy(np.float64)
    mean_P, test = clip_P2.mean(1), patients.test
    line = np.polyfit(mean_P[patients.train], patients.ef_P[patients.train], 1)
    error_N, val_view = np.abs(clip_N - ef_N)[part.val], patients.view_N[part.val]
    error_of = {view: error_N[val_view == view].mean() for view in np.unique(val_view)}
    better_P = np.array(
        [np.argmin([error_of[view] for view in pair]) for pair in patients.view_N[patients.row_P2[test]]]
    )
    found = {
        MEAN: mean_P[test],
        LINE: np.polyval(line, mean_P[test]),
        "better view, by validation error": clip_P2[test, better_P],
        "clip 1 alone": clip_P2[test, 0],
        "clip 2 alone": clip_P2[test, 1],
    }
    component_NK = PCA(_COMPONENTS, random_state=0).fit(value_NF[part.train]).transform(value_NF)
    for form, feature_NF in (("features", component_NK), ("predictions", clip_N[:, None])):
        scale = float(feature_NF[part.train].std())
        pooled = by_attention(feature_NF, patients, scale=scale)
        found |= {f"attention over {form}, {name}": value_P for name, value_P in pooled}
    print(f"the line's slope: {line[0]:.2f}; {len(test)} test patients")
    return found, patients


def rows(found: Mapping[str, Floats], ef_P: Floats) -> Iterator[str]:
    """Markdown: R2, less the mean's, less the line's; with a clip missing less the other clip's."""
    numbers = np.arange(len(ef_P))
    weight_DP = np.concatenate([np.ones((1, len(ef_P))), *patient_weights(numbers, draws=_DRAWS)])

    def r2_D(value_P: Floats) -> Floats:
        mean_D1 = (weight_DP @ ef_P / weight_DP.sum(1))[:, None]
        return 1 - weight_DP @ (value_P - ef_P) ** 2 / (weight_DP * (ef_P - mean_D1) ** 2).sum(1)

    def cell(value_D: Floats) -> str:
        return shown(estimate(float(value_D[0]), value_D[1:], patients=len(ef_P)))

    of = {name: r2_D(value_P) for name, value_P in found.items()}
    yield "| | R2 | minus the mean | minus the line | minus the other clip alone |\n|---|---|---|---|---|"
    for name, value_D in of.items():
        missing = name.rpartition(", without clip ")[2]
        other = cell(value_D - of[f"clip {3 - int(missing)} alone"]) if missing.isdigit() else ""
        yield f"| {name} | {cell(value_D)} | {cell(value_D - of[MEAN])} | {cell(value_D - of[LINE])} | {other} |"


def main(arguments: Arguments) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    name = str(arguments.encoder)
    encoder = open_encoder(str(random_spec(name)) if arguments.untrained else name, seed=0)
    found, patients = predictions(two_clips_each(table_of(encoder, arguments.shards)))
    print(*rows(found, patients.ef_P[patients.test]), sep="\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
