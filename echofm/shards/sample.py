"""One clip as the bytes that a tar holds of it: its files, their headers and padding, the same on every machine."""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.clip import FACTS, NOT_ANNOTATED, Clip, Label
from echofm.shards.manifest import ClipMeta, Split, as_json, checked

# What plain webdataset calls each array, and what it must be: dtype and shape letters. K frames are annotated, often
# two of hundreds, so only their masks are stored, with their numbers; the other frames' mask is 255. A digit is a size.
ARRAYS: Mapping[str, tuple[str, str]] = {
    "frames.npy": ("|u1", "TCHW"),
    "latents.npy": ("<f2", "TChw"),
    "sector.npy": ("|b1", "HW"),
    "time.npy": ("<f8", "T"),
    "phase.npy": ("<f4", "T"),
    "mask.npy": ("|u1", "KHW"),
    "mask_frame.npy": ("<i4", "K"),
    "paired.npy": ("|u1", "T1HW"),
    "clean.npy": ("|u1", "T1HW"),
    "displacement_px.npy": ("<f2", "T2HW"),
    "velocity_m_per_s.npy": ("<f2", "THW"),
}
# Which of them holds a field of a Clip.
MEMBERS: Mapping[str, str] = {
    "frames_TCHW": "frames.npy",
    "sector_HW": "sector.npy",
    "frame_time_s": "time.npy",
    "phase_T": "phase.npy",
    "mask_THW": "mask.npy",
    "paired_TCHW": "paired.npy",
    "clean_TCHW": "clean.npy",
    "displacement_px_T2HW": "displacement_px.npy",
    "velocity_m_per_s_THW": "velocity_m_per_s.npy",
}
META = "meta.json"
BLOCK = tarfile.BLOCKSIZE


def members(clip: Clip, *, split: Split, dataset: str) -> dict[str, bytes]:
    """The clip's files by suffix."""
    arrays: dict[str, npt.NDArray[Any] | None] = {suffix: getattr(clip, name) for name, suffix in MEMBERS.items()}
    mask_THW = arrays.pop("mask.npy")
    if mask_THW is not None:
        annotated_K = np.flatnonzero((mask_THW != NOT_ANNOTATED).any(axis=(1, 2)))
        if len(annotated_K):
            arrays.update({"mask.npy": mask_THW[annotated_K], "mask_frame.npy": annotated_K})
    files = {
        name: npy_bytes(array.astype(ARRAYS[name][0], copy=False))
        for name, array in arrays.items()
        if array is not None
    }
    return {**files, META: as_json(clip_meta(clip, split=split, dataset=dataset))}


def tar_blocks(clip_id: str, files: Mapping[str, bytes]) -> bytes:
    """A clip's files as consecutive tar records, without the two empty records that end a tar.

    Such blocks, one after another, make the tar that webdataset's TarWriter would write (a test holds them to it), and
    its bytes depend on nothing but the clips and their order: time, owner and group are 0 in every header.
    """
    blocks = []
    for name, data in sorted(files.items()):
        info = tarfile.TarInfo(f"{clip_id}.{name}")
        info.size, info.mode = len(data), 0o444
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % BLOCK)]
    return b"".join(blocks)


def clip_meta(clip: Clip, *, split: Split, dataset: str) -> ClipMeta:
    """A clip's description. A label that is NaN or None is a label that is missing."""
    rate = clip.frame_rate_hz
    labels = {name: value.item() if isinstance(value, np.generic) else value for name, value in clip.labels.items()}
    return checked(
        ClipMeta,
        f"clip {clip.clip_id}",
        **{name: getattr(clip, name) for name in FACTS},
        split=split,
        dataset=dataset,
        labels={name: value for name, value in sorted(labels.items()) if not _missing(value)},
        frame_rate_hz=None if rate is None else round(rate, 6),
    )


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The array as a version 1.0 .npy file, C order."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _missing(value: Label | None) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
