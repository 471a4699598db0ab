"""The index: where every clip of a tar lies and what its .meta.json says, found by one strict pass over the headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pydantic

from echofm.errors import EchofmError
from echofm.shards import tar
from echofm.shards.manifest import ClipMeta, Manifest, TarEntry, parsed
from echofm.shards.sample import ARRAYS, META


class ClipRecord(pydantic.BaseModel):
    """One clip: its description, its arrays by suffix."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    shard: str
    meta: ClipMeta
    arrays: dict[str, tar.Array]

    @property
    def n_frames(self) -> int:
        """T, of pixels or latents."""
        return self.arrays["frames.npy" if "frames.npy" in self.arrays else "latents.npy"].shape[0]

    @property
    def n_masks(self) -> int:
        """How many of its frames have a mask."""
        return self.arrays["mask.npy"].shape[0] if "mask.npy" in self.arrays else 0

    @property
    def clip_id(self) -> str:
        """Keyed hash of the clip."""
        return self.meta.clip_id


def index_tar(folder: Path, entry: TarEntry, manifest: Manifest) -> list[ClipRecord]:
    """Every clip of one tar, checked. Raises EchofmError naming the shard and the flaw."""
    path = folder / entry.name
    try:
        with open(path, "rb") as file:
            records = [_record(file, group, entry, manifest) for group in _clips(file, entry)]
    except OSError as error:
        raise EchofmError(f"shard {entry.name}: cannot be read ({error.strerror})") from None
    if len(records) != entry.clips:
        raise EchofmError(f"shard {entry.name}: holds {len(records)} clips, the manifest says {entry.clips}")
    return records


def _clips(file: BinaryIO, entry: TarEntry) -> Iterator[dict[str, tar.Member]]:
    """The members grouped by clip; a clip's members stand in a row and no two have one name."""
    seen: set[str] = set()
    group: dict[str, tar.Member] = {}
    clip_id = None
    for member in tar.members(file, name=entry.name, size=entry.bytes):
        if member.clip_id != clip_id:
            if group:
                yield group
            if member.clip_id in seen:
                raise EchofmError(f"shard {entry.name}: clip {member.clip_id} comes twice; refused")
            clip_id, group = member.clip_id, {}
            seen.add(clip_id)
        if member.suffix in group:
            raise EchofmError(f"shard {entry.name}: clip {clip_id} has {member.suffix} twice; refused")
        group[member.suffix] = member
    if group:
        yield group


def _record(file: BinaryIO, group: dict[str, tar.Member], entry: TarEntry, manifest: Manifest) -> ClipRecord:
    clip_id = next(iter(group.values())).clip_id
    missing = [suffix for suffix in (manifest.content, "sector.npy", META) if suffix not in group]
    if missing:
        raise EchofmError(f"shard {entry.name}: clip {clip_id} lacks {', '.join(missing)}")
    text = tar.read_meta(file, group[META], name=entry.name)
    meta = parsed(ClipMeta, text, f"shard {entry.name}: {META} of clip {clip_id}")
    if meta.clip_id != clip_id or meta.split != entry.split:
        raise EchofmError(f"shard {entry.name}: {META} of clip {clip_id} names another clip or split")
    arrays = {
        suffix: tar.read_array_header(file, member, name=entry.name)
        for suffix, member in group.items()
        if suffix != META
    }
    flaw = _misfit({suffix: array.shape for suffix, array in arrays.items()}, manifest)
    if flaw is not None:
        raise EchofmError(f"shard {entry.name}: {flaw} of clip {clip_id} does not fit its frames or the manifest")
    return ClipRecord(shard=entry.name, meta=meta, arrays=arrays)


def _misfit(shapes: dict[str, tuple[int, ...]], manifest: Manifest) -> str | None:
    """The array whose shape is not what the manifest and the number of frames demand; None where all fit."""
    n_frames = shapes[manifest.content][0]
    n_masks = min(shapes.get("mask.npy", (0,))[0], n_frames)
    sizes = manifest.sizes(frames=n_frames, masks=n_masks)
    for suffix, shape in shapes.items():
        if shape != tuple(sizes.get(letter) for letter in ARRAYS[suffix][1]):
            return suffix
    return "mask.npy" if n_masks and "mask_frame.npy" not in shapes else None
