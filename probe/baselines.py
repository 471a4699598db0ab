"""Baselines: principal components of training patients' pixels, pixels by time, the constant that looks at nothing.

Shapes: N clips, D pixels, K components.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import conformed
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.labels.target import Target, read_goal
from probe.partition import Partition

# What the constant is called in the results, by task.
CONSTANT = {"regression": "mean", "classification": "majority", "ordinal": "majority", "multilabel": "prevalence"}
COMPONENTS = (4, 8, 16, 32, 64, 128, 256)
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
# Enough for 256 directions; a larger training set would only cost memory.
_MOST_FITTED, _BLOCK_ROWS = 20_000, 8192
_SIDE = 32


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
    return reduced(pixels, goal, part, seed=seed)


def reduced(pixels: EmbeddingTable, goal: Target, part: Partition, *, seed: int = 0) -> EmbeddingTable:
    """`pixel_pca` for a target and partition already read."""
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


def constant(goal: Target, train: npt.NDArray[np.int64], *, clips: int) -> npt.NDArray:
    """(N,) the training mean, (N, K) the commonest class, or (N, L) each label's part of the training clips."""
    values = goal.of(train)
    if goal.task == "regression":
        return np.full(clips, values.mean())
    if goal.task == "multilabel":
        known = ~np.isnan(values)
        share_L = np.where(known, values, 0).sum(0) / np.maximum(1, known.sum(0))
        return np.broadcast_to(share_L, (clips, len(share_L))).copy()
    predicted = np.zeros((clips, len(goal.classes)))
    predicted[..., np.bincount(values, minlength=len(goal.classes)).argmax()] = 1
    return predicted


def pixel_table(table: EmbeddingTable, clips: Iterable[Clip]) -> EmbeddingTable:
    """A table's phase tokens as EchoFM's pixel prior sees them: grey, averaged over a token's frames, 32 x 32, without
    their mean.

    clips: those of the table, in any order (a `ShardSet` gives them); others are passed over. They are brought under
    the table's contract as `echofm embed` does. Compared with their clip's mean removed, these are the pixel prior of
    `echofm.loss.periodic`. Raises EchofmError where the table has no phase tokens, contract or one of its clips.
    """
    if table.phase is None or table.contract is None:
        raise EchofmError("the table has no phase tokens or no contract; embed the clips with phase on")
    contract = InputContract.model_validate(dict(table.contract))
    index = {str(name): number for number, name in enumerate(table.clip_id)}
    found: dict[int, npt.NDArray[np.float32]] = {}
    for clip in clips:
        number = index.get(clip.clip_id)
        if number is not None:
            found[number] = _thumbnails(conformed(clip, contract), table.phase.of(number).frame_P)
    if len(found) < len(table):
        raise EchofmError(
            f"{len(table) - len(found)} clips of the table were not given; give the data that it was made of"
        )
    features = [found[number] for number in range(len(table))]
    return replace(
        table,
        video_ND=np.stack([each.mean(0) for each in features]),
        phase=replace(table.phase, feature_PD=np.concatenate(features)),
        encoder_digest="pixels 32x32",
    )


def _thumbnails(clip: Clip, frame_P: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(T, 1024) of the tokens whose frames have these mean indices; a token sees as many frames as the closest two are
    apart."""
    span = max(1, round(float(np.diff(frame_P).min()))) if len(frame_P) > 1 else 1
    grey_THW = torch.from_numpy(clip.frames_TCHW).float().mean(1) / 255
    small_TP = F.adaptive_avg_pool2d(grey_THW[:, None], _SIDE).flatten(1)
    first_T = np.ceil(frame_P - (span - 1) / 2 - 0.25).astype(np.int64)
    frames = (first_T[:, None] + np.arange(span)).clip(0, len(grey_THW) - 1)
    pixels = small_TP[torch.from_numpy(frames)].mean(1)
    return (pixels - pixels.mean(1, keepdim=True)).numpy()
