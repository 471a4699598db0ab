"""NIfTI-1 and -2 volumes: the header first, then no more bytes than it claims, compressed or not."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, gather
from echofm.readers.greys import to_grey
from echofm.readers.kinds import no_clip
from echofm.readers.limits import Limits
from echofm.readers.refused import Refused

# sizeof_hdr, the first field, by version; either byte order.
_HEADER_BYTES = {1: 348, 2: 540}
# Extensions lie between header and pixels; more than this is no echo's.
_MAX_OFFSET = 16_000_000
# Units of length in millimetres and of time in seconds, by nibabel's names.
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Volume:
    """values_THW as stored (or THWC for RGB), the header's scaling applied; spacing and times as in `Clip`."""

    values_THW: npt.NDArray[Any]
    pixel_spacing_mm: tuple[float, float] | None
    pixel_aspect: float
    frame_time_s: npt.NDArray[np.float64] | None


def is_nifti(source: BinaryIO) -> bool:
    """Whether the content, unpacked if it is gzip, starts with a NIfTI header."""
    try:
        return _version(_unpacked(source).read(_HEADER_BYTES[2])) is not None
    except (OSError, EOFError, zlib.error):
        return False
    finally:
        source.seek(0)


def decode_nifti(source: BinaryIO, *, channels: int, limits: Limits) -> Decoded:
    """Decode a cine or a still. Refused where it is cut, above the limits, or no row of images."""
    volume = read_volume(source, limits=limits)
    frames = to_grey(volume.values_THW) if volume.values_THW.ndim == 3 else volume.values_THW
    clip_TCHW, chroma_HW = gather(iter(frames), at_most=len(frames), channels=channels)
    return Decoded(
        frames_TCHW=clip_TCHW,
        chroma_HW=chroma_HW,
        frame_time_s=volume.frame_time_s,
        pixel_spacing_mm=volume.pixel_spacing_mm,
        pixel_aspect=volume.pixel_aspect,
    )


def read_volume(source: BinaryIO, *, limits: Limits) -> Volume:
    """Read a volume of axes X, Y, T (CAMUS, CardiacNet) as T, H, W; also for label maps.

    Refused where it is cut, above the limits, or not of that form.
    """
    try:
        return _read(_unpacked(source), limits=limits)
    except (OSError, EOFError, zlib.error):
        raise Refused("the NIfTI file is cut or damaged: it cannot be unpacked to its end") from None


def _read(stream: BinaryIO, *, limits: Limits) -> Volume:
    import nibabel

    head = stream.read(_HEADER_BYTES[2])
    version = _version(head)
    if version is None:
        raise Refused("it has no NIfTI header")
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    header = cast(Any, kind)(head[: _HEADER_BYTES[version]], check=False)
    width, height, frames = _shape(header)
    dtype = _dtype(header)
    samples = 3 if dtype.names else 1
    sample_bytes = dtype.itemsize // samples
    limits.check_clip(frames=frames, height=height, width=width, channels=samples, sample_bytes=sample_bytes)
    offset = float(header["vox_offset"])
    if not len(head) <= max(offset, len(head)) <= _MAX_OFFSET:
        raise Refused("the NIfTI header places the pixels where none can be")
    body = head[int(offset) :] + _exactly(stream, max(0, int(offset) - len(head)), keep=False)
    wanted = frames * height * width * dtype.itemsize
    body += _exactly(stream, wanted - len(body))
    # At the end of a packed file this is where its checksum is compared.
    stream.read(1 << 20)
    stored = np.frombuffer(body[:wanted], dtype).reshape(frames, height, width)
    values = np.stack([stored[name] for name in ("R", "G", "B")], axis=-1) if dtype.names else stored
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(intercept or 0.0)
    return Volume(
        values_THW=values,
        pixel_spacing_mm=_spacing(header),
        pixel_aspect=_aspect(header),
        frame_time_s=_times(header, frames),
    )


def _unpacked(source: BinaryIO) -> BinaryIO:
    source.seek(0)
    packed = source.read(2) == b"\x1f\x8b"
    source.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=source)) if packed else source


def _version(head: bytes) -> int | None:
    for version, size in _HEADER_BYTES.items():
        magic = head[344:348] if version == 1 else head[4:8]
        if len(head) >= size and magic in (f"n+{version}".encode() + b"\0",):
            return version
    return None


def _shape(header: Any) -> tuple[int, int, int]:
    """Width, height and frames: the third axis, or the fourth where the third has one slice."""
    dim = [int(size) for size in header["dim"]]
    if not 2 <= dim[0] <= 7:
        raise Refused("the NIfTI header has no plausible number of axes")
    long = [size for size in dim[3 : dim[0] + 1] if size != 1]
    if len(long) > 1:
        raise no_clip("volume")
    return dim[1], dim[2], long[0] if long else 1


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype = header.get_data_dtype()
    except Exception:
        raise Refused("the NIfTI header names no known type of pixel") from None
    if dtype.names == ("R", "G", "B") or (dtype.kind in "iuf" and dtype.itemsize <= 8):
        return dtype
    raise Refused("its pixels are neither numbers nor RGB")


def _exactly(stream: BinaryIO, size: int, *, keep: bool = True) -> bytes:
    """The next `size` bytes, read in parts so that a short file costs no more than it holds."""
    parts, left = [], size
    while left > 0:
        part = stream.read(min(left, 1 << 24))
        if not part:
            raise Refused("the volume is cut: it holds fewer pixels than its header claims")
        left -= len(part)
        if keep:
            parts.append(part)
    return b"".join(parts)


def _spacing(header: Any) -> tuple[float, float] | None:
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0])
    column, row = (float(size) for size in header["pixdim"][1:3])
    if unit is None or not (np.isfinite([row, column]).all() and row > 0 and column > 0):
        return None
    return row * unit, column * unit


def _aspect(header: Any) -> float:
    """A pixel's width by its height, which needs no unit."""
    column, row = (float(size) for size in header["pixdim"][1:3])
    return column / row if np.isfinite([row, column]).all() and row > 0 and column > 0 else 1.0


def _times(header: Any, frames: int) -> npt.NDArray[np.float64] | None:
    """From the fourth axis' step; 1, which writers put where they do not know it, tells nothing."""
    unit = _SECONDS.get(header.get_xyzt_units()[1])
    step = float(header["pixdim"][4])
    if unit is None or int(header["dim"][0]) < 4 or frames == 1 or step == 1.0 or not (np.isfinite(step) and step > 0):
        return None
    return np.arange(frames, dtype=np.float64) * (step * unit)
