"""The index: where every clip of a tar lies and what its .meta.json says, found by one strict pass over the headers.

Others may have touched the tars: every flaw is one line naming the shard and the reason. Only what `echofm shards`
writes is accepted: plain ustar files named `<clip id>.<known suffix>`, each clip's members in a row, arrays in .npy 1.0
with the dtype and rank that the suffix promises. Nothing is ever extracted to disk.
"""

from __future__ import annotations

import io
import math
import re
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
import pydantic

from echofm.errors import EchofmError
from echofm.shards.manifest import ClipMeta, Manifest, TarEntry, parsed
from echofm.shards.sample import ARRAYS, BLOCK, META

_NAME = re.compile(r"([0-9a-f]{20})\.([a-z_]+\.(?:npy|json))")
_MAX_META_BYTES = 64 * 1024
# Our .npy headers have 128 bytes; a header cannot need more than this.
_MAX_NPY_HEADER_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of a tar: whose, which, where its data lie and how many bytes they are."""

    clip_id: str
    suffix: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Array:
    """Where an array's numbers begin in the tar, and its shape."""

    offset: int
    shape: tuple[int, ...]


def members(file: BinaryIO, *, name: str, size: int) -> Iterator[Member]:
    """Every member of a tar of `size` bytes, in order. `name` is the shard's, for the errors."""
    offset = 0
    while True:
        header = _read(file, offset, BLOCK, name)
        if not header.strip(b"\0"):
            break
        member = _checked(header, offset, name)
        end = member.offset + math.ceil(member.size / BLOCK) * BLOCK
        if end > size - 2 * BLOCK:
            raise EchofmError(f"shard {name}: the member at byte {offset} runs past the end of the tar; copy it again")
        yield member
        offset = end
    if size - offset < 2 * BLOCK or size - offset > 2 * tarfile.RECORDSIZE:
        raise EchofmError(f"shard {name}: does not end as a tar ends; copy it again")
    if _read(file, offset, size - offset, name).strip(b"\0"):
        raise EchofmError(f"shard {name}: bytes after the end of the tar; copy it again")


def read_meta(file: BinaryIO, member: Member, *, name: str) -> bytes:
    """The text of a `.meta.json`."""
    if member.size > _MAX_META_BYTES:
        raise EchofmError(f"shard {name}: {META} of clip {member.clip_id} has {member.size} bytes, more than 64 KiB")
    return _read(file, member.offset, member.size, name)


def read_array_header(file: BinaryIO, member: Member, *, name: str) -> Array:
    """Place and shape of a `.npy`, its header checked against what the suffix promises."""
    dtype, letters = ARRAYS[member.suffix]
    stream = io.BytesIO(_read(file, member.offset, min(member.size, _MAX_NPY_HEADER_BYTES), name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError
            shape, fortran, found = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_NPY_HEADER_BYTES)
    except (ValueError, UserWarning, SyntaxError, TokenError, RecursionError, MemoryError):
        raise EchofmError(f"shard {name}: {member.suffix} of clip {member.clip_id} has no sound .npy header") from None
    if found.hasobject:
        raise EchofmError(f"shard {name}: {member.suffix} of clip {member.clip_id} holds pickled objects; refused")
    if found.str != dtype or fortran or len(shape) != len(letters) or min(shape) < 1:
        raise EchofmError(
            f"shard {name}: {member.suffix} of clip {member.clip_id} is {found.str} of rank {len(shape)}, "
            f"not {dtype} {letters}"
        )
    if stream.tell() + math.prod(shape) * found.itemsize != member.size:
        raise EchofmError(f"shard {name}: {member.suffix} of clip {member.clip_id} has not the bytes its shape needs")
    return Array(offset=member.offset + stream.tell(), shape=shape)


def _checked(header: bytes, offset: int, name: str) -> Member:
    try:
        info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError):
        raise EchofmError(f"shard {name}: no tar header at byte {offset}: cut or damaged; copy it again") from None
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise EchofmError(f"shard {name}: the member at byte {offset} is a link, device or folder; refused")
    match = _NAME.fullmatch(info.name)
    if match is None or match[2] not in (*ARRAYS, META):
        raise EchofmError(
            f"shard {name}: the member at byte {offset} is not named <clip id>.<{'|'.join([*ARRAYS, META])}>; refused"
        )
    if info.size < 1:
        raise EchofmError(f"shard {name}: the member at byte {offset} is empty or of negative size; refused")
    return Member(clip_id=match[1], suffix=match[2], offset=offset + BLOCK, size=info.size)


def _read(file: BinaryIO, offset: int, size: int, name: str) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise EchofmError(f"shard {name}: ends in the middle of a member; copy it again")
    return data


class ClipRecord(pydantic.BaseModel):
    """One clip: its description, its arrays by suffix."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    shard: str
    meta: ClipMeta
    arrays: dict[str, Array]

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


def _clips(file: BinaryIO, entry: TarEntry) -> Iterator[dict[str, Member]]:
    """The members grouped by clip; a clip's members stand in a row and no two have one name."""
    seen: set[str] = set()
    group: dict[str, Member] = {}
    clip_id = None
    for member in members(file, name=entry.name, size=entry.bytes):
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


def _record(file: BinaryIO, group: dict[str, Member], entry: TarEntry, manifest: Manifest) -> ClipRecord:
    clip_id = next(iter(group.values())).clip_id
    missing = [suffix for suffix in (manifest.content, "sector.npy", META) if suffix not in group]
    if missing:
        raise EchofmError(f"shard {entry.name}: clip {clip_id} lacks {', '.join(missing)}")
    text = read_meta(file, group[META], name=entry.name)
    meta = parsed(ClipMeta, text, f"shard {entry.name}: {META} of clip {clip_id}")
    if meta.clip_id != clip_id or meta.split != entry.split:
        raise EchofmError(f"shard {entry.name}: {META} of clip {clip_id} names another clip or split")
    arrays = {
        suffix: read_array_header(file, member, name=entry.name) for suffix, member in group.items() if suffix != META
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
