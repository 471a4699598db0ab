"""A codec's latents of every clip, written once as shards beside those of the pixels.

T frames, C channels and h x w places of the latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

import echofm
from echofm.clip import Clip
from echofm.errors import EchofmError
from echofm.progress import progress_bar
from echofm.shards.encode import Written
from echofm.shards.manifest import MANIFEST, SET_ASIDE, Latents, Manifest, as_json
from echofm.shards.read import ShardSet
from echofm.shards.sample import members, npy_bytes, tar_blocks
from echofm.shards.staging import new_folder, staged

Encode = Callable[[Clip], npt.NDArray[np.floating]]
"""A clip of the shards to its latents (T, C, h, w), as the codec makes them."""


def channel_statistics(shards: ShardSet, encode: Encode) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over these clips: give those of the training split alone.

    Raises EchofmError where a channel never changes.
    """
    count, total_C, squares_C = 0, np.zeros(1), np.zeros(1)
    for clip in shards:
        latents_TChw = encode(clip).astype(np.float64)
        count += latents_TChw[:, 0].size
        total_C = total_C + latents_TChw.sum((0, 2, 3))
        squares_C = squares_C + np.square(latents_TChw).sum((0, 2, 3))
    mean_C = total_C / count
    # Rounding may leave a constant channel a little below 0.
    variance_C = np.maximum(squares_C / count - mean_C**2, 0)
    if not (variance_C > 1e-12 * squares_C / count).all():
        raise EchofmError("a channel of the codec's latents is the same everywhere; is the codec trained?")
    return tuple(mean_C.tolist()), tuple(np.sqrt(variance_C).tolist())


def write_latents(
    shards: ShardSet, out: str | Path, *, encode: Encode, latents: Latents, show_progress: bool = True
) -> Manifest:
    """Write a whole folder of shards anew into `out`, latents in place of pixels; returns its manifest.

    Ids, splits, times, labels, sectors, masks and all else stay, at the size of the pixels. What is stored is
    (encode(clip) - latents.mean_C) / latents.std_C as float16. A killed run goes on when called again alike. Raises
    EchofmError where latents do not fit their clip or `latents`, or are not finite in float16.
    """
    manifest = shards.manifest
    assert len(shards) == sum(split.clips for split in manifest.splits.values()), "a folder is written whole"
    out = new_folder(out)
    known = [entry.sha256 for entry in manifest.tars]
    fingerprint = hashlib.sha256(repr((echofm.__version__, known, latents)).encode()).hexdigest()
    with staged(
        out, fingerprint=fingerprint, shard_mb=manifest.settings.shard_mb, show_progress=show_progress
    ) as staging:
        with progress_bar("latents", len(shards), show=show_progress) as bar:
            bar.advance(len(staging.outcomes))
            for index in range(len(staging.outcomes), len(shards)):
                written, files = _encoded(shards, index, encode, latents)
                staging.add((written, tar_blocks(written.clip_id, files)))
                bar.advance()
        tars = staging.close_tars()
        size = {name: sum(entry.bytes for entry in tars if entry.split == name) for name in manifest.splits}
        splits = {name: counts.model_copy(update={"bytes": size[name]}) for name, counts in manifest.splits.items()}
        changed = {"latents": latents, "tars": tars, "splits": splits, "tool": f"echofm {echofm.__version__}"}
        manifest = manifest.model_copy(update=changed)
        aside = (shards.folder / SET_ASIDE).read_bytes()
        staging.publish({SET_ASIDE: aside, MANIFEST: as_json(manifest, indent=2)})
    return manifest


def _encoded(shards: ShardSet, index: int, encode: Encode, latents: Latents) -> tuple[Written, dict[str, bytes]]:
    record, clip = shards.records[index], shards.clip(index)
    latents_TChw = encode(clip)
    side = shards.manifest.settings.size // latents.scale
    expected = (record.n_frames, len(latents.mean_C), side, side)
    if latents_TChw.shape != expected:
        raise EchofmError(
            f"the codec gives latents {latents_TChw.shape} of clip {record.clip_id}; by its scale and channels they "
            f"are {expected}; correct `latents`"
        )
    mean, std = (np.array(each)[:, None, None] for each in (latents.mean_C, latents.std_C))
    with np.errstate(over="ignore"):
        stored = ((latents_TChw - mean) / std).astype(np.float16)
    if not np.isfinite(stored).all():
        raise EchofmError(f"the latents of clip {record.clip_id} are not finite in float16; is the codec sound?")
    meta = record.meta
    files = members(clip, split=meta.split, dataset=meta.dataset)
    del files["frames.npy"]
    files["latents.npy"] = npy_bytes(stored)
    written = Written(
        **meta.model_dump(include={"clip_id", "patient_id", "split", "view", "kind"}),
        labels=tuple(meta.labels),
        native_size="",
        native_rate_hz="",
        frames=record.n_frames,
    )
    return written, files
