"""MetaImage (.mhd beside .raw or .zraw), the older form of CAMUS: a text header that is not trusted."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from echofm.readers.decoded import Decoded, gather
from echofm.readers.greys import to_grey
from echofm.readers.kinds import no_clip
from echofm.readers.limits import Limits
from echofm.readers.opening import open_plain
from echofm.readers.refused import Refused

_MAX_HEADER_BYTES = 65_536
_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def is_metaimage(head: bytes) -> bool:
    """Whether a file starts as MetaImage headers do."""
    return head.lstrip().startswith((b"ObjectType", b"NDims"))


def decode_metaimage(source: BinaryIO, *, path: Path, channels: int, limits: Limits) -> Decoded:
    """Decode the volume, axes X, Y, T, that a header describes. Refused where the two do not agree.

    The pixels must lie in a file beside the header, named without any folder.
    """
    fields = _fields(source.read(_MAX_HEADER_BYTES))
    sizes = _integers(fields, "DimSize")
    if not 2 <= len(sizes) <= 4:
        raise Refused("the MetaImage header has no DimSize of two to four axes")
    width, height = sizes[:2]
    long = [size for size in sizes[2:] if size != 1]
    if len(long) > 1:
        raise no_clip("volume")
    frames = long[0] if long else 1
    samples = _integers(fields, "ElementNumberOfChannels", default=[1])[0]
    if fields.get("ElementType") not in _TYPES or samples not in (1, 3):
        raise Refused("the MetaImage header names no known type of pixel")
    dtype = np.dtype(_TYPES[fields["ElementType"]]).newbyteorder(
        ">" if _true(fields, "BinaryDataByteOrderMSB") else "<"
    )
    limits.check_clip(frames=frames, height=height, width=width, channels=samples, sample_bytes=dtype.itemsize)
    wanted = frames * height * width * samples * dtype.itemsize
    body = _body(fields, path=path, wanted=wanted)
    values = np.frombuffer(body, dtype).reshape(frames, height, width, samples)
    pictures = to_grey(values)
    clip_TCHW, chroma_HW = gather(
        iter(pictures if samples == 3 else pictures[..., 0]), at_most=frames, channels=channels
    )
    return Decoded(
        frames_TCHW=clip_TCHW,
        chroma_HW=chroma_HW,
        pixel_spacing_mm=_spacing(fields),
        companion_sha256=hashlib.sha256(body).digest(),
    )


def _fields(text: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in text.decode("latin-1").splitlines())
    return {name.strip(): value.strip() for name, equals, value in lines if equals}


def _integers(fields: dict[str, str], name: str, default: list[int] | None = None) -> list[int]:
    if name not in fields and default is not None:
        return default
    try:
        return [int(number) for number in fields.get(name, "").split()]
    except ValueError:
        raise Refused(f"the MetaImage header's {name} is no row of whole numbers") from None


def _true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "").lower() == "true"


def _body(fields: dict[str, str], *, path: Path, wanted: int) -> bytes:
    """The pixels' bytes, exactly as many as wanted, from the file beside the header."""
    name = fields.get("ElementDataFile", "")
    if not name or name in (".", "..", "LIST", "LOCAL") or any(mark in name for mark in "/\\:%\0"):
        raise Refused("the MetaImage header must name a plain file beside it as ElementDataFile")
    with open_plain(path.parent / name) as raw:
        if _true(fields, "CompressedData"):
            try:
                body = zlib.decompressobj().decompress(raw.read(wanted + 65_536), wanted)
            except zlib.error:
                raise Refused("the compressed pixels beside the MetaImage header are damaged") from None
        else:
            body = raw.read(wanted)
    if len(body) < wanted:
        raise Refused("the volume is cut: it holds fewer pixels than its header claims")
    return body


def _spacing(fields: dict[str, str]) -> tuple[float, float] | None:
    """ElementSpacing (X, Y, ...), in millimetres by MetaImage's convention."""
    try:
        column, row = (float(number) for number in fields.get("ElementSpacing", "").split()[:2])
    except ValueError:
        return None
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None
