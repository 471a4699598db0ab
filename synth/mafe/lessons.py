"""Lessons: each training clip's triples of frames and their teacher's flow, written once beside the shards.

N clips of the shards in their order, K triples of each, h rows and w columns at half the frames' size.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import filelock
import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save_file

import echofm
from echofm.atomic import whole_file, write_whole
from echofm.errors import EchofmError, os_errors_as
from echofm.machine import processors
from echofm.progress import progress_bar
from echofm.schema import FrozenModel
from echofm.shards.read import ShardSet
from synth.mafe.flow import FlowKind, flow_teacher, opencv
from synth.mafe.phase import find_beats
from synth.mafe.triples import chosen_triples

MANIFEST = "lessons.json"
_CLIPS_PER_PART = 32
_LEAST_FRAMES = 3


class Request(FrozenModel):
    """What decides the bytes of the lessons."""

    echofm_version: str
    shards: str
    """sha256 over those of the tars."""
    clips: int
    flow: FlowKind
    per_clip: int


class Manifest(FrozenModel):
    """Written last: the lessons are whole."""

    request: Request
    sha256: tuple[str, ...]
    """Of each part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """index_3: frames (first, middle, last) of the clip. time: of the middle, in [0, 1].

    flow_4hw: float16, pixels of the frame at full size, from the middle frame to the first (0:2), to the last (2:4).
    """

    index_3: npt.NDArray[np.int64]
    time: float
    flow_4hw: npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """Read by clip and number. Clips of fewer than three frames have none."""

    folder: Path
    per_clip: int
    position: dict[str, int]

    def lesson(self, clip_id: str, number: int) -> Lesson:
        """Lesson `number`, 0 to per_clip - 1, of a clip."""
        part, row = divmod(self.position[clip_id], _CLIPS_PER_PART)
        try:
            with safetensors.safe_open(self.folder / _part(part), framework="np") as stored:
                index, time, flow = (
                    stored.get_slice(name)[row : row + 1, number : number + 1] for name in ("index", "time", "flow")
                )
        except (OSError, safetensors.SafetensorError):
            raise EchofmError(f"{self.folder / _part(part)}: damaged; remove the folder, it is written anew") from None
        return Lesson(index_3=index[0, 0], time=float(time[0, 0]), flow_4hw=flow[0, 0])


def lessons_of(
    shards: ShardSet, *, flow: FlowKind, per_clip: int, processes: int | None = None, show_progress: bool = True
) -> Lessons:
    """The lessons of all clips; written beside the shards where they are not there, going on after a kill.

    shards: a whole folder. processes: that share the writing, by default one per core. Several training processes may
    call this at once: one writes. Raises EchofmError where the folder cannot be written or belongs to other shards.
    """
    digest = hashlib.sha256("".join(entry.sha256 for entry in shards.manifest.tars).encode()).hexdigest()
    request = Request(echofm_version=echofm.__version__, shards=digest, clips=len(shards), flow=flow, per_clip=per_clip)
    key = hashlib.sha256(request.to_json().encode()).hexdigest()[:8]
    folder = shards.folder.with_name(f"{shards.folder.name}.mafe-{flow}-{per_clip}-{key}")
    unwritable = f"{folder} cannot be written ({{reason}}); put the shards where there is room"
    with os_errors_as(unwritable), filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / MANIFEST).is_file():
            _write(shards, folder, request, processes or processors(), show_progress)
        _check(folder, request)
    position = {record.clip_id: number for number, record in enumerate(shards.records)}
    return Lessons(folder=folder, per_clip=per_clip, position=position)


def usable(shards: ShardSet) -> list[int]:
    """Numbers of the clips that have lessons."""
    return [number for number, record in enumerate(shards.records) if record.n_frames >= _LEAST_FRAMES]


def _part(number: int) -> str:
    return f"part-{number:05d}.safetensors"


def _write(shards: ShardSet, folder: Path, request: Request, processes: int, show_progress: bool) -> None:
    from echofm.saved import file_sha256

    # Here, not in every worker: what is missing is one line.
    opencv()
    folder.mkdir(exist_ok=True)
    parts = range(-(-len(shards) // _CLIPS_PER_PART))
    todo = [part for part in parts if not (folder / _part(part)).is_file()]
    with progress_bar("pairs of frames and their flow, clips", len(shards), show=show_progress) as bar:
        bar.advance(len(shards) - sum(len(_clips(shards, part)) for part in todo))
        if processes == 1 or len(todo) < 2:
            for part in todo:
                bar.advance(_write_part(shards, folder, request, part))
        else:
            with ProcessPoolExecutor(min(processes, len(todo)), mp_context=get_context("spawn")) as pool:
                jobs = [pool.submit(_write_part, shards, folder, request, part) for part in todo]
                for job in jobs:
                    bar.advance(job.result())
    digests = tuple(file_sha256(folder / _part(part)) for part in parts)
    write_whole(folder / MANIFEST, Manifest(request=request, sha256=digests).to_json())


def _check(folder: Path, request: Request) -> None:
    # Here: it brings torch, which the workers of `_write` do without.
    from echofm.saved import file_sha256

    manifest = Manifest.from_json(folder / MANIFEST)
    if manifest.request != request:
        raise EchofmError(f"{folder}: written for other shards; remove the folder, it is written anew")
    for number, digest in enumerate(manifest.sha256):
        path = folder / _part(number)
        if not path.is_file() or file_sha256(path) != digest:
            raise EchofmError(f"{path}: not the bytes written (sha256 differs); remove the folder, it is written anew")


def _clips(shards: ShardSet, part: int) -> range:
    return range(part * _CLIPS_PER_PART, min((part + 1) * _CLIPS_PER_PART, len(shards)))


def _write_part(shards: ShardSet, folder: Path, request: Request, part: int) -> int:
    """One part; how many clips it has."""
    estimate, half, count = flow_teacher(request.flow), shards.manifest.settings.size // 2, request.per_clip
    clips = _clips(shards, part)
    index = np.zeros((len(clips), count, 3), np.int64)
    time = np.zeros((len(clips), count), np.float32)
    flow = np.zeros((len(clips), count, 4, half, half), np.float16)
    for row, number in enumerate(clips):
        clip = shards.clip(number)
        frames_THW = np.rint(clip.frames_TCHW.mean(1)).astype(np.uint8)
        if len(frames_THW) < _LEAST_FRAMES:
            continue
        time_s_T = np.arange(len(frames_THW), dtype=np.float64) if clip.frame_time_s is None else clip.frame_time_s
        beats = None if clip.frame_time_s is None else find_beats(frames_THW, time_s_T)
        # Of the clip alone, so that no other clip and no order of clips changes it.
        seed = int.from_bytes(hashlib.sha256(clip.clip_id.encode()).digest()[:8], "little")
        triples = chosen_triples(time_s_T, beats, count=count, rng=np.random.default_rng(seed))
        index[row], time[row] = triples.index_K3, triples.time_K
        for place, (first, middle, last) in enumerate(triples.index_K3.tolist()):
            for channel, other in ((0, first), (2, last)):
                if other != middle:
                    moved_2HW = estimate(frames_THW[middle], frames_THW[other])
                    halved = moved_2HW[:, : 2 * half, : 2 * half].reshape(2, half, 2, half, 2).mean((2, 4))
                    flow[row, place, channel : channel + 2] = halved
    with whole_file(folder / _part(part)) as draft:
        save_file({"index": index, "time": time, "flow": flow}, draft)
    return len(clips)
