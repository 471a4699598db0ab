"""Baselines of a label: principal components of training patients' pixels, and the constant that looks at nothing.

Shapes: N clips, D pixels, K components.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score

from echofm.embed.table import EmbeddingTable
from probe.labels.target import Target, read_goal
from probe.partition import Partition

# What the constant is called in the results, by task.
CONSTANT = {"regression": "mean", "classification": "majority", "ordinal": "majority", "multilabel": "prevalence"}
COMPONENTS = (4, 8, 16, 32, 64, 128, 256)
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
# Enough for 256 directions; a larger training set would only cost memory.
_MOST_FITTED, _BLOCK_ROWS = 20_000, 8192


def pixel_pca(
    pixels: EmbeddingTable,
    *,
    target: str,
    task: Any = None,
    order: Sequence[str] = (),
    test_clips: Collection[str] | None = None,
    seed: int = 0,
) -> EmbeddingTable:
    """The table of `echofm.backbones.PixelEncoder` reduced for one target.

    Components are those of the training patients of the same partition that the probe uses; their number is the one
    whose ridge does best on validation patients; test patients are not looked at. Maps and tokens are left out.
    Raises EchofmError as the probe would on a target that does not fit.
    """
    goal, part = read_goal(pixels, target, task=task, order=order, test_clips=test_clips, seed=seed)
    scores_NK = component_scores(pixels.video_ND, part.train, seed=seed)
    train, val = goal.of(part.train), goal.of(part.val)
    tried = [count for count in COMPONENTS if count < scores_NK.shape[1]] + [scores_NK.shape[1]]
    worth = [_worth(scores_NK[part.train, :count], train, scores_NK[part.val, :count], val) for count in tried]
    count = tried[int(np.argmax(worth))]
    kept, settings = np.ascontiguousarray(scores_NK[:, :count]), {**pixels.settings, "components": count}
    return replace(pixels, video_ND=kept, motion_NRCD=None, phase=None, tokens=None, settings=settings)


def component_scores(
    video_ND: npt.NDArray[np.float32], train: npt.NDArray[np.int64], *, seed: int = 0
) -> npt.NDArray[np.float32]:
    """All clips along the first directions of the training rows, (N, K), K at most 256, most variance first."""
    rows = train
    if len(rows) > _MOST_FITTED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_FITTED, replace=False))
    count = max(1, min(COMPONENTS[-1], len(rows) - 1, video_ND.shape[1]))
    solver = "randomized" if count < 0.8 * min(len(rows), video_ND.shape[1]) else "full"
    pca = PCA(count, svd_solver=solver, random_state=seed).fit(np.asarray(video_ND[rows]))
    blocks = [pca.transform(video_ND[first : first + _BLOCK_ROWS]) for first in range(0, len(video_ND), _BLOCK_ROWS)]
    return np.concatenate(blocks).astype(np.float32)


def _worth(X: npt.NDArray, y: npt.NDArray, X_val: npt.NDArray, y_val: npt.NDArray) -> float:
    """Best over penalties, greater is better: minus the mean squared error, or balanced accuracy of class numbers."""
    if y.dtype.kind == "f" or y.ndim > 1:
        # Of several labels some may be unknown: at their mean they say nothing.
        models = [Ridge(alpha).fit(X, np.where(np.isnan(y), np.nanmean(y, 0), y)) for alpha in _PENALTIES]
        return max(-float(np.nanmean((model.predict(X_val) - y_val) ** 2)) for model in models)
    if len(np.unique(y)) < 2:
        return 0.0
    models = [RidgeClassifier(alpha, class_weight="balanced").fit(X, y) for alpha in _PENALTIES]
    return max(float(balanced_accuracy_score(y_val, model.predict(X_val))) for model in models)


def constant(goal: Target, part: Partition) -> npt.NDArray:
    """(N, 1) the training mean, (N, 1, K) the commonest class, or (N, 1, L) each label's part of the training clips."""
    values, clips = goal.of(part.train), len(part.test)
    if goal.task == "regression":
        return np.full((clips, 1), values.mean())
    if goal.task == "multilabel":
        known = ~np.isnan(values)
        share_L = np.where(known, values, 0).sum(0) / np.maximum(1, known.sum(0))
        return np.broadcast_to(share_L, (clips, 1, len(share_L))).copy()
    predicted = np.zeros((clips, 1, len(goal.classes)))
    predicted[..., np.bincount(values, minlength=len(goal.classes)).argmax()] = 1
    return predicted
