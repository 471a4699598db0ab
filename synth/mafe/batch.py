"""LessonBatch: triples of frames with their teachers' word, in the order that training sees them.

B triples, H rows, W columns; h = H / 2, w = W / 2; E numbers of an identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import ClipBatch
from echofm.errors import EchofmError
from echofm.shards.read import ShardSet
from echofm.shards.windows import draws, epoch_order
from synth.mafe.lessons import Lessons

Identities = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class LessonBatch(ClipBatch):
    """video_BCTHW: first, middle and last frame, T 3. time_B: of the middle one, 0 at the first, 1 at the last.

    flow_B4hw: the flow teacher's, pixels at full size from the middle to the first (0:2) and the last frame.
    identity_BE: the appearance teacher's, of length one, zeros where it has none for the clip.
    """

    time_B: torch.Tensor
    flow_B4hw: torch.Tensor
    identity_BE: torch.Tensor


def lesson_batches(
    shards: ShardSet,
    lessons: Lessons,
    identities: Identities,
    *,
    batch: int,
    rank: int,
    world: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[LessonBatch]:
    """This rank's part of every global batch, for ever: clips shuffled anew each epoch, one lesson of each drawn.

    A function of (seed, epoch, clip id). Raises EchofmError where there are fewer clips than one batch.
    """
    if len(shards) < batch:
        raise EchofmError(f"{len(shards)} training clips of three frames or more are fewer than --fit.batch {batch}")
    ids = [record.clip_id for record in shards.records]
    step, share = start_step, batch // world
    while True:
        epoch, position = divmod(step, len(shards) // batch)
        first = position * batch + rank * share
        chosen = epoch_order(ids, seed=seed, epoch=epoch)[first : first + share].tolist()
        lessons_drawn = [(index, *_drawn(ids[index], lessons, seed, epoch)) for index in chosen]
        yield read_lessons(shards, lessons, identities, lessons_drawn)
        step += 1


def _drawn(clip_id: str, lessons: Lessons, seed: int, epoch: int) -> tuple[int, int]:
    """Which of a clip's lessons, and the seed of every further draw about it."""
    _, draw, position = draws(seed, epoch, clip_id)
    return int(position * lessons.per_clip), draw


def read_lessons(
    shards: ShardSet, lessons: Lessons, identities: Identities, chosen: list[tuple[int, int, int]]
) -> LessonBatch:
    """Lessons as one batch. chosen: clip of the shards, number of its lesson, seed of its draws."""
    found = [lessons.lesson(shards.records[clip].clip_id, number) for clip, number, _ in chosen]
    channels, height, width = shards.records[chosen[0][0]].arrays[shards.manifest.content].shape[1:]
    video_BTCHW = np.empty((len(chosen), 3, channels, height, width), np.uint8)
    for (clip, _, _), lesson, video_TCHW in zip(chosen, found, video_BTCHW):
        shards.read_frames(clip, lesson.index_3, video_TCHW)
    metas = [shards.records[clip].meta for clip, _, _ in chosen]
    nothing = np.zeros(max((len(each) for each in identities.values()), default=0), np.float32)
    time_B = torch.tensor([lesson.time for lesson in found])
    return LessonBatch(
        video_BCTHW=torch.from_numpy(video_BTCHW).transpose(1, 2),
        sector_BHW=torch.from_numpy(np.stack([shards.sector_HW(clip) for clip, _, _ in chosen])),
        valid_BT=torch.ones(len(chosen), 3, dtype=torch.bool),
        frame_time_s_BT=torch.full((len(chosen), 3), torch.nan, dtype=torch.float64),
        draw_B=torch.tensor([draw for _, _, draw in chosen], dtype=torch.int64),
        clip_ids=[meta.clip_id for meta in metas],
        patient_ids=[meta.patient_id for meta in metas],
        time_B=time_B,
        flow_B4hw=torch.from_numpy(np.stack([lesson.flow_4hw for lesson in found])),
        identity_BE=torch.from_numpy(np.stack([identities.get(meta.clip_id, nothing) for meta in metas])),
    )
