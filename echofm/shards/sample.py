"""One clip as the bytes that a tar holds of it: its files, their headers and padding, the same on every machine."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.clip import Clip, Label
from echofm.shards.manifest import ClipMeta, Split, as_json, checked

# What plain webdataset calls each array, and what it must be: dtype and shape letters.
ARRAYS: Mapping[str, tuple[str, str]] = {
    "frames.npy": ("|u1", "TCHW"),
    "sector.npy": ("|b1", "HW"),
    "time.npy": ("<f8", "T"),
    "phase.npy": ("<f4", "T"),
    "mask.npy": ("|u1", "THW"),
}
META = "meta.json"
REQUIRED = ("frames.npy", "sector.npy", META)
BLOCK = 512


def members(clip: Clip, *, split: Split, dataset: str) -> dict[str, bytes]:
    """The clip's files by suffix."""
    arrays = (clip.frames_TCHW, clip.sector_HW, clip.frame_time_s, clip.phase_T, clip.mask_THW)
    files = {
        name: npy_bytes(array.astype(dtype, copy=False))
        for (name, (dtype, _)), array in zip(ARRAYS.items(), arrays)
        if array is not None
    }
    return {**files, META: as_json(clip_meta(clip, split=split, dataset=dataset))}


def tar_blocks(clip_id: str, files: Mapping[str, bytes]) -> bytes:
    """A clip's files as consecutive tar records, without the two empty records that end a tar.

    Such blocks, one after another, make a tar whose bytes depend on nothing but the clips and their order.
    """
    from webdataset.writer import TarWriter

    stream = io.BytesIO()
    # Owner 0 and time 0 in every header; the files are bytes already, so no encoder.
    with TarWriter(stream, user="", group="", mode=0o444, mtime=0, compress=False, encoder=False) as tar:
        tar.write({"__key__": clip_id, **files})
    length = sum(BLOCK + math.ceil(len(data) / BLOCK) * BLOCK for data in files.values())
    return stream.getvalue()[:length]


def clip_meta(clip: Clip, *, split: Split, dataset: str) -> ClipMeta:
    """A clip's description. A label that is NaN or None is a label that is missing."""
    rate = clip.frame_rate_hz
    labels = {name: value.item() if isinstance(value, np.generic) else value for name, value in clip.labels.items()}
    return checked(
        ClipMeta,
        f"clip {clip.clip_id}",
        clip_id=clip.clip_id,
        patient_id=clip.patient_id,
        split=split,
        dataset=dataset,
        view=clip.view,
        kind=clip.kind,
        labels={name: value for name, value in sorted(labels.items()) if not _missing(value)},
        frame_rate_hz=None if rate is None else round(rate, 6),
        pixel_spacing_mm=clip.pixel_spacing_mm,
    )


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """The array as a version 1.0 .npy file, C order."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _missing(value: Label | None) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
