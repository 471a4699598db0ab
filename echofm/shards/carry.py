"""What a batch may carry beside its video: named by the loader's user, read for each window, stacked.

B windows, L frames of a window, H rows, W columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import LEFT_VENTRICLE, NOT_ANNOTATED, Clip
from echofm.errors import EchofmError
from echofm.fan import beams
from echofm.shards.manifest import ClipMeta
from echofm.shards.read import ShardSet
from echofm.shards.sample import ARRAYS, MEMBERS
from echofm.window import between

Carry = Literal["labels", "view", "beam", "mask", "emptying", "phase", "paired", "clean", "displacement", "velocity"]


@dataclass(frozen=True)
class _Array:
    """An array of each frame: its field of Clip and of ClipBatch, its value where a clip has none (None: refused)."""

    clip: str
    batch: str
    unknown: float | None


_ARRAYS: Mapping[str, _Array] = {
    "mask": _Array("mask_THW", "mask_BTHW", NOT_ANNOTATED),
    "phase": _Array("phase_T", "phase_BT", np.nan),
    "paired": _Array("paired_TCHW", "paired_BCTHW", None),
    "clean": _Array("clean_TCHW", "clean_BCTHW", None),
    "displacement": _Array("displacement_px_T2HW", "displacement_px_BT2HW", np.nan),
    "velocity": _Array("velocity_m_per_s_THW", "velocity_m_per_s_BTHW", np.nan),
}


@dataclass(frozen=True, eq=False)
class Held:
    """One clip, in shards or in memory: what is said of it, its sector, and a way to the rest.

    array: (field of Clip, first frame, frame after the last, None: to the end) to those frames; None where the clip
        holds none.
    """

    about: Clip | ClipMeta
    sector_HW: npt.NDArray[np.bool_]
    array: Callable[[str, int, int | None], npt.NDArray[Any] | None]


def of_clip(clip: Clip) -> Held:
    """A clip in memory."""

    def array(field: str, first: int, stop: int | None) -> npt.NDArray[Any] | None:
        held = getattr(clip, field)
        return None if held is None else held[first:stop]

    return Held(clip, clip.sector_HW, array)


def of_shards(shards: ShardSet, index: int) -> Held:
    """A clip of a shard folder, by its number."""
    return Held(shards.records[index].meta, shards.sector_HW(index), functools.partial(shards.array, index))


def check_carry(carry: Sequence[Carry], shards: ShardSet | None = None) -> None:
    """Raises EchofmError on a name that is none, and where the shards hold nothing of it, or not enough."""
    for name in carry:
        if name not in get_args(Carry):
            raise EchofmError(f"a batch cannot carry {name!r}; it can {', '.join(get_args(Carry))}")
        array = _array_of(name)
        if shards is not None and array in _ARRAYS:
            suffix, total = MEMBERS[_ARRAYS[array].clip], len(shards)
            lacking = sum(suffix not in record.arrays for record in shards.records)
            if lacking and (lacking == total or _ARRAYS[array].unknown is None):
                raise EchofmError(
                    f"{lacking} of {total} clips in the shards hold no {array} to carry; write shards of files that "
                    "have it (a phantom: `echofm phantom --truth`)"
                )


def held_by(shards: ShardSet, carry: Sequence[Carry]) -> list[Carry]:
    """Of these what a clip or more of the shards holds."""
    held = {suffix for record in shards.records for suffix in record.arrays}
    arrays = {name: _ARRAYS.get(_array_of(name)) for name in carry}
    return [name for name in carry if (array := arrays[name]) is None or MEMBERS[array.clip] in held]


def emptying_T(mask_THW: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Of each frame how much of what the clip shows of emptying the left ventricle's area has done, in [0, 1].

    0 where the clip's largest is seen (end-diastole), 1 where its smallest is (end-systole); NaN in frames without a
    mask, and in all of a clip whose masks are fewer than two or alike.
    """
    known_T = (mask_THW != NOT_ANNOTATED).any((1, 2))
    area_T = np.where(known_T, (mask_THW == LEFT_VENTRICLE).sum((1, 2)), np.nan)
    largest, smallest = (np.nan,) * 2 if not known_T.any() else (np.nanmax(area_T), np.nanmin(area_T))
    if not largest > smallest:
        return np.full(len(area_T), np.nan, np.float32)
    return ((largest - area_T) / (largest - smallest)).astype(np.float32)


def _array_of(name: str) -> str:
    return "mask" if name == "emptying" else name


def carried(carry: Sequence[Carry], clips: Sequence[Held], indices: Sequence[npt.NDArray[np.int64]]) -> dict[str, Any]:
    """The fields of a ClipBatch for windows: of each its clip and its frames (L,).

    Raises EchofmError where a clip holds no frames that were named.
    """
    fields: dict[str, Any] = {}
    for name in carry:
        if name == "labels":
            fields["labels"] = [clip.about.labels for clip in clips]
        elif name == "view":
            fields["views"] = [clip.about.view for clip in clips]
        elif name == "beam":
            found = [beams(clip.about.fan, clip.sector_HW) for clip in clips]
            fields["beam_B2HW"] = torch.from_numpy(np.stack(found))
        elif name == "emptying":
            parts = [_emptying_L(clip, indices_L) for clip, indices_L in zip(clips, indices)]
            fields["emptying_BT"] = torch.from_numpy(np.stack(parts))
        else:
            of = _ARRAYS[name]
            parts = [_of_window(name, clip, indices_L) for clip, indices_L in zip(clips, indices)]
            stacked = torch.from_numpy(np.stack(parts))
            fields[of.batch] = stacked.transpose(1, 2) if of.batch.endswith("_BCTHW") else stacked
    return fields


def _emptying_L(clip: Held, indices_L: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    mask_THW = clip.array("mask_THW", 0, None)
    if mask_THW is None:
        return np.full(len(indices_L), np.nan, np.float32)
    return emptying_T(mask_THW)[indices_L]


def _of_window(name: str, clip: Held, indices_L: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    of, first = _ARRAYS[name], int(indices_L.min())
    array = clip.array(of.clip, first, int(indices_L.max()) + 1)
    if array is not None:
        return between(array, indices_L - first) if name == "displacement" else array[indices_L - first]
    if of.unknown is None:
        raise EchofmError(f"clip {clip.about.clip_id} holds no {name} frames; leave {name} out of `carry`")
    dtype, letters = ARRAYS[MEMBERS[of.clip]]
    sizes = {"2": 2, "H": clip.sector_HW.shape[0], "W": clip.sector_HW.shape[1]}
    return np.full((len(indices_L), *(sizes[letter] for letter in letters[1:])), of.unknown, dtype)
