"""A quick probe while an encoder trains: `echofm pretrain ... --monitor probe:ef_percent`.

Installed under "echofm.monitors", so pretraining finds it by name and imports nothing of this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from echofm.embed.extract import Extractor
from echofm.embed.inputs import ShardInput
from echofm.embed.table import EmbeddingTable
from echofm.engine.monitor import leaving_no_trace
from echofm.errors import EchofmError
from echofm.estimators.neighbours import CosineNeighboursClassifier, CosineNeighboursRegressor
from probe.labels.target import Target, read_target

if TYPE_CHECKING:
    from echofm.contract import InputContract
    from echofm.engine.monitor import Snapshot
    from echofm.model.tokens import Grid
    from echofm.shards.index import ClipRecord

TRAIN_CLIPS, VAL_CLIPS = 256, 128
_FEWEST_TRAIN, _FEWEST_VAL = 10, 2
_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 5, 7))
_NEIGHBOURS, _FOLDS = 5, 4
_CLIPS_AT_ONCE = 8


def monitor(argument: str) -> Callable[[Snapshot], dict[str, float]]:
    """The hook for one label, `view` or `kind`; for several, parted by commas. Raises EchofmError where none is named.

    Each call embeds the middle window of at most 256 training and 128 validation clips, the same ones each time, and
    fits a ridge (its penalty by 4-fold cross-validation over training patients) and a 5-nearest-neighbour probe. It
    gives `r2` or `balanced_accuracy` of the ridge and `knn_...` of the neighbours on the validation clips, and
    `train_clips` and `val_clips`; with several labels each name starts with its label and a slash.
    """
    targets = [name.strip() for name in argument.split(",") if name.strip()]
    if not targets:
        raise EchofmError("--monitor probe needs a label: --monitor probe:ef_percent")

    def hook(snapshot: Snapshot) -> dict[str, float]:
        table = _embedded(snapshot, targets)
        found = {target: quick_probe(table, target=target) for target in targets}
        if len(targets) == 1:
            return found[targets[0]]
        return {f"{target}/{name}": value for target in targets for name, value in found[target].items()}

    return hook


def quick_probe(table: EmbeddingTable, *, target: str) -> dict[str, float]:
    """Figures of a ridge and a neighbour probe, fitted on the table's train clips, on its val clips.

    Raises EchofmError where too few clips of either split have the label, it does not vary among the training clips,
    or it is several labels in one. r2 is NaN where it does not vary among the validation clips.
    """
    goal = read_target(table, target)
    if goal.task == "multilabel":
        raise EchofmError(f"--monitor probe:{target}: several labels in one; the quick probe takes one at a time")
    split = table.split[goal.rows_M]
    train, val = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")
    if len(train) < _FEWEST_TRAIN or len(val) < _FEWEST_VAL or len(np.unique(goal.values_M[train])) < 2:
        raise EchofmError(
            f"--monitor probe:{target}: {len(train)} training and {len(val)} val clips have the label; at least "
            f"{_FEWEST_TRAIN} of different values and {_FEWEST_VAL} are needed; take another label, or write shards "
            "with more val clips (`echofm shards --split-by hash --fractions 0.8 0.1 0.1`)"
        )
    X = np.asarray(table.video_ND[goal.rows_M], np.float64)
    patients = table.patient_id[goal.rows_M[train]].astype(str)
    name = "r2" if goal.task == "regression" else "balanced_accuracy"
    models = zip((name, f"knn_{name}"), _models(goal, patients, clips=len(train)))
    figures = {name: _worth(goal, model.fit(X[train], goal.values_M[train]), X[val], val) for name, model in models}
    return figures | {"train_clips": float(len(train)), "val_clips": float(len(val))}


def _models(goal: Target, patients: npt.NDArray[np.str_], *, clips: int) -> tuple[Any, Any]:
    """A ridge and a neighbour probe."""
    number = goal.task == "regression"
    linear = Ridge() if number else RidgeClassifier(class_weight="balanced")
    step = "ridge" if number else "ridgeclassifier"
    folds = min(_FOLDS, len(set(patients)))
    model = make_pipeline(StandardScaler(), linear)
    if folds > 1:
        # The folds are dealt out before the fit, since they need the patients.
        dealt = list(GroupKFold(folds).split(patients, groups=patients))
        scoring = "neg_mean_absolute_error" if number else "balanced_accuracy"
        model = GridSearchCV(model, {f"{step}__alpha": _ALPHAS}, cv=dealt, scoring=scoring)
    kind = CosineNeighboursRegressor if number else CosineNeighboursClassifier
    return model, kind(n_neighbors=min(_NEIGHBOURS, clips))


def _worth(goal: Target, model: Any, X_val: npt.NDArray, val: npt.NDArray[np.int64]) -> float:
    truth, predicted = goal.values_M[val], model.predict(X_val)
    if goal.task != "regression":
        return float(balanced_accuracy_score(truth, predicted))
    return float(r2_score(truth, predicted)) if np.ptp(truth) > 0 else math.nan


def _embedded(snapshot: Snapshot, targets: Sequence[str]) -> EmbeddingTable:
    """Features of the chosen clips, as `echofm embed --windows 1` would give them."""
    chosen: list[ClipRecord] = []
    for name, most in (("train", TRAIN_CLIPS), ("val", VAL_CLIPS)):
        labelled = [r for r in snapshot.shards.split(name).records if any(_has(r, target) for target in targets)]
        places = np.unique(np.linspace(0, len(labelled) - 1, min(most, len(labelled))).round().astype(int))
        chosen += [labelled[place] for place in places]
    if not chosen:
        raise EchofmError(f"--monitor probe: no clip of the shards has the label {', '.join(targets)}")
    shards = replace(snapshot.shards, records=chosen)
    model = snapshot.model
    with leaving_no_trace({"model": model}):
        extractor = Extractor(
            encoder=_Live(model, snapshot.contract, digest=f"step {snapshot.step}"),  # type: ignore[arg-type]
            windows=1,
            batch=_CLIPS_AT_ONCE,
            device=next(model.parameters()).device,
            phase=False,
        )
        return extractor.table(ShardInput(shards, contract=snapshot.contract).read(range(len(shards))))  # type: ignore[arg-type]


def _has(record: ClipRecord, target: str) -> bool:
    if target in ("view", "kind"):
        return getattr(record.meta, target) is not None
    return target in record.meta.labels


@dataclass(frozen=True)
class _Live:
    """A model in training, as the extractor wants an encoder."""

    model: Any
    contract: InputContract
    digest: str

    @property
    def grid(self) -> Grid:
        """Times, rows and columns of its tokens."""
        grid: Grid = self.model.encoder.positions.grid
        return grid

    def encode(self, video_BCTHW: torch.Tensor) -> Any:
        if self.contract.repeats_grey and video_BCTHW.shape[1] == 1:
            video_BCTHW = video_BCTHW.expand(-1, 3, -1, -1, -1)
        return self.model.encode(video_BCTHW)
