"""The index: where every clip of a tar lies and what its .meta.json says, found by one strict pass over the headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pydantic

from echofm.errors import EchofmError
from echofm.shards import tar
from echofm.shards.manifest import ClipMeta, TarEntry, parsed
from echofm.shards.sample import META, REQUIRED


class ClipRecord(pydantic.BaseModel):
    """One clip: its description, how many of its frames have a mask, where its arrays begin in its tar, by suffix."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    shard: str
    meta: ClipMeta
    shape_TCHW: tuple[int, int, int, int]
    n_masks: int
    offsets: dict[str, int]

    @property
    def clip_id(self) -> str:
        """Keyed hash of the clip."""
        return self.meta.clip_id


def index_tar(folder: Path, entry: TarEntry) -> list[ClipRecord]:
    """Every clip of one tar, checked. Raises EchofmError naming the shard and the flaw."""
    path = folder / entry.name
    try:
        with open(path, "rb") as file:
            records = [_record(file, group, entry) for group in _clips(file, entry)]
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


def _record(file: BinaryIO, group: dict[str, tar.Member], entry: TarEntry) -> ClipRecord:
    clip_id = next(iter(group.values())).clip_id
    missing = [suffix for suffix in REQUIRED if suffix not in group]
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
    shapes = {suffix: array.shape for suffix, array in arrays.items()}
    n_frames, channels, height, width = shapes["frames.npy"]
    n_masks = shapes.get("mask.npy", (0,))[0]
    fitting = {
        "sector.npy": (height, width),
        "time.npy": (n_frames,),
        "phase.npy": (n_frames,),
        "mask.npy": (min(n_masks, n_frames), height, width),
        "mask_frame.npy": (n_masks,),
    }
    for suffix, shape in shapes.items():
        if shape != fitting.get(suffix, shape):
            raise EchofmError(f"shard {entry.name}: {suffix} of clip {clip_id} does not fit its frames")
    if ("mask.npy" in shapes) != ("mask_frame.npy" in shapes):
        raise EchofmError(f"shard {entry.name}: clip {clip_id} has only one of mask.npy and mask_frame.npy")
    if channels not in (1, 3):
        raise EchofmError(f"shard {entry.name}: clip {clip_id} has {channels} channels, not 1 or 3")
    return ClipRecord(
        shard=entry.name,
        meta=meta,
        shape_TCHW=(n_frames, channels, height, width),
        n_masks=n_masks,
        offsets={suffix: array.offset for suffix, array in arrays.items()},
    )
