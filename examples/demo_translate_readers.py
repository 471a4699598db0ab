"""View, left ventricle and its change of area, read from colour, from translated and from true grey clips.

The readers learn from the training patients' true grey. N frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from demo_translate_clips import COLOUR, STRUCTURE, TEXTURE, Pair
from demo_translate_figures import mean
from sklearn.metrics import f1_score

from echofm.clip import LEFT_VENTRICLE, Clip
from echofm.intervals import Estimate, patient_bootstrap
from echofm.shards.read import ShardSet
from synth.downstream.frames import Frames
from synth.downstream.learner import Learner, overlap_N
from synth.downstream.settings import DownstreamSettings

TRUE, _EVERY = "true grey", 4
_INPUTS = (COLOUR, STRUCTURE, TEXTURE, TRUE)


def reader_figures(out: Path, pairs: Sequence[Pair], *, steps: int) -> dict[str, Estimate]:
    """Of a finished demo's folder and its test clips."""
    train = _frames(list(ShardSet.open(out / "shards").split("train")))
    settings, views = DownstreamSettings(steps=steps, seeds=1), sorted(set(train.view_N))
    readers = {task: Learner(task, size=64, classes=views) for task in ("segmentation", "view")}
    nets = {task: learner.fit([train], settings, seed=0) for task, learner in readers.items()}
    figures, patients = {}, [pair.clip.patient_id for pair in pairs]
    area = {name: [] for name in _INPUTS}
    dice, truth, view = ({name: [] for name in _INPUTS} for _ in range(3))
    for pair in pairs:
        found = {name: _read(pair, name) for name in _INPUTS}
        maps = {name: readers["segmentation"].predict(nets["segmentation"], each) for name, each in found.items()}
        hidden = pair.mask_THW.any((1, 2))
        for name in _INPUTS:
            same = overlap_N(maps[TRUE], maps[name], LEFT_VENTRICLE)
            right = overlap_N(found[name].mask_NHW, maps[name], LEFT_VENTRICLE)
            dice[name].append(_mean_known(same[hidden]))
            truth[name].append(_mean_known(right[hidden]))
            area[name].append(_change_of_area(maps[name]))
            votes = readers["view"].predict(nets["view"], found[name]).bincount(minlength=len(views))
            view[name].append(int(votes.argmax()))
    wanted = np.array([views.index(pair.clip.view or "") for pair in pairs])
    for name in _INPUTS:
        figures[f"Dice with the map of the true grey: {name}"] = mean(dice[name], patients)
        figures[f"Dice with the true map: {name}"] = mean(truth[name], patients)
        error = np.abs(np.array(area[name]) - np.array(area[TRUE]))
        figures[f"change of LV area, difference from the true grey's, points: {name}"] = mean(error, patients)
        both = {"both": (np.stack([wanted, view[name]], 1), np.array(patients))}
        figures[f"view, F1: {name}"] = patient_bootstrap(lambda both: f1_score(*both.T, average="macro"), both)
    return figures


def _frames(clips: Sequence[Clip]) -> Frames:
    """Some frames of each clip in true grey."""
    images, masks, views, patients = [], [], [], []
    for clip in clips:
        chosen = slice(None, None, _EVERY)
        images.append(clip.paired_TCHW[chosen])
        masks.append(clip.mask_THW[chosen])
        views += [clip.view] * len(masks[-1])
        patients += [clip.patient_id] * len(masks[-1])
    return _as_frames(np.concatenate(images)[:, 0], np.concatenate(masks), views, patients)


def _read(pair: Pair, name: str) -> Frames:
    frames_THW = pair.true_THW if name == TRUE else pair.found[name]
    nobody = [""] * len(frames_THW)
    assert pair.clip.mask_THW is not None
    return _as_frames(frames_THW, pair.clip.mask_THW, nobody, nobody)


def _as_frames(grey_NHW: np.ndarray, mask_NHW: np.ndarray, views: list[str], patients: list[str]) -> Frames:
    return Frames(
        image_N1HW=torch.from_numpy(grey_NHW.copy())[:, None].float() / 255,
        mask_NHW=torch.from_numpy(mask_NHW).long(),
        time_point_N=np.full(len(grey_NHW), ""),
        view_N=np.array(views),
        patient_N=np.array(patients),
        simulated=True,
    )


def _change_of_area(map_NHW: torch.Tensor) -> float:
    """Percent by which the left ventricle's area falls, between the tenths of frames where it is largest and least."""
    area_N = (map_NHW == LEFT_VENTRICLE).sum((1, 2)).numpy()
    least, largest = np.quantile(area_N, [0.1, 0.9])
    return float("nan") if largest == 0 else float(100 * (largest - least) / largest)


def _mean_known(values_N: np.ndarray) -> float:
    return float("nan") if np.isnan(values_N).all() else float(np.nanmean(values_N))
