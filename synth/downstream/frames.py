"""Frames at end-diastole and end-systole of a split's clips, with their truth. N frames, H rows, W columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from echofm.clip import NOT_ANNOTATED
from echofm.errors import EchofmError
from echofm.shards.carry import emptying_T
from echofm.shards.read import ShardSet
from synth.text.prompt import TIME_POINTS


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """image_N1HW in [0, 1]; mask_NHW, classes of echofm.clip; time_point_N, view_N; patient_N, ids.

    simulated: whether they are the phantom's.
    """

    image_N1HW: torch.Tensor
    mask_NHW: torch.Tensor
    time_point_N: np.ndarray
    view_N: np.ndarray
    patient_N: np.ndarray
    simulated: bool = False

    def __len__(self) -> int:
        return len(self.image_N1HW)

    def where(self, chosen_N: np.ndarray) -> Frames:
        """Those that a boolean array chooses."""
        rows = np.flatnonzero(chosen_N)
        return replace(self, **{name: getattr(self, name)[rows] for name in _OF_EACH})

    def of_patients(self, percent: float, *, seed: int) -> Frames:
        """Those of a part of the patients, one or more, drawn by the seed; a larger part holds the smaller."""
        patients = np.random.default_rng(seed).permutation(np.unique(self.patient_N))
        return self.where(np.isin(self.patient_N, patients[: max(1, round(len(patients) * percent / 100))]))


_OF_EACH = ("image_N1HW", "mask_NHW", "time_point_N", "view_N", "patient_N")


def frames_of(spec: str) -> Frames:
    """Two frames of each clip of SHARDS:SPLIT that has masks of two.

    Raises EchofmError where there are none, or the masks leave pixels out.
    """
    folder, _, split = spec.rpartition(":")
    if not folder:
        raise EchofmError(f"{spec}: give SHARDS:SPLIT, e.g. shards:train")
    shards = ShardSet.open(folder).split(split)
    images, masks, points, views, patients = [], [], [], [], []
    for index, record in enumerate(shards.records):
        mask_THW = shards.array(index, "mask_THW")
        if mask_THW is None or np.isnan(emptied_T := emptying_T(mask_THW)).all():
            continue
        frames_TCHW = shards.clip(index).frames_TCHW
        for point, frame in zip(TIME_POINTS, (np.nanargmin(emptied_T), np.nanargmax(emptied_T))):
            images.append(frames_TCHW[frame, :1])
            masks.append(mask_THW[frame])
            points.append(point)
            views.append(record.meta.view or "")
            patients.append(record.meta.patient_id)
    if not images or (np.stack(masks) == NOT_ANNOTATED).any():
        raise EchofmError(f"{spec}: there are no clips with whole masks of two frames that differ")
    return Frames(
        image_N1HW=torch.from_numpy(np.stack(images)).float() / 255,
        mask_NHW=torch.from_numpy(np.stack(masks)).long(),
        time_point_N=np.array(points),
        view_N=np.array(views),
        patient_N=np.array(patients),
        simulated=any(record.meta.simulated for record in shards.records),
    )


def require_apart(parts: Sequence[tuple[str, Frames]]) -> None:
    """Raises EchofmError where two of these share a patient, or differ in size."""
    for number, (name, one) in enumerate(parts):
        for other_name, other in parts[number + 1 :]:
            if shared := len(set(one.patient_N) & set(other.patient_N)):
                raise EchofmError(f"{name} and {other_name} share {shared} patients; take splits of one shard folder")
            if one.image_N1HW.shape[1:] != other.image_N1HW.shape[1:]:
                raise EchofmError(f"{name} and {other_name} hold frames of two sizes; write shards of one --size")
