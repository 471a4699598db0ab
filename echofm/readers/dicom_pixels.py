"""Pixels of a DICOM file, one frame at a time, as 8-bit grey or RGB whatever the scanner stored."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from echofm.readers.dicom_file import fill_in_pixel_tags
from echofm.readers.dicom_grey import grey_frames
from echofm.readers.dicom_palette import palette_frames
from echofm.readers.dicom_ybr import mend_subsampling
from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

Frame = npt.NDArray[np.uint8]

# JPEG lossless (process 14) and JPEG-LS: only python-gdcm decodes them among the libraries we may use.
_NEEDS_GDCM = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_12_BIT = "1.2.840.10008.1.2.4.51"
_PILLOW_READS = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
# MPEG-2, H.264 and HEVC: all frames in one stream, which no decoder of pydicom takes.
_VIDEO = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10[0-8](\.1)?")
# High-throughput JPEG 2000. The OpenJPEG (>= 2.5) in Pillow decodes it; pydicom only has to be told the older name.
_HTJ2K = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.20[1-3]")
_JPEG_2000 = "1.2.840.10008.1.2.4.90"


def dicom_frames(data_set: Dataset, *, frames: int) -> Iterator[Frame]:
    """Frames (H, W) or (H, W, 3) uint8 in order; MONOCHROME1 is inverted: the output always shows echo as bright.

    Refused by the name of the transfer syntax where that is not read, lacks its library, or cannot be decoded.
    """
    syntax = data_set.file_meta.TransferSyntaxUID
    _check_syntax(syntax)
    fill_in_pixel_tags(data_set)
    if not syntax.is_encapsulated:
        mend_subsampling(data_set, frames)
    _check_codec(data_set, frames)
    if _HTJ2K.fullmatch(syntax):
        from pydicom.uid import UID

        data_set.file_meta.TransferSyntaxUID = UID(_JPEG_2000)
    try:
        yield from _frames(data_set, frames)
    except (Refused, MemoryError, RecursionError):
        raise
    except Exception:
        # A library's own text may quote a tag.
        raise Refused(f"its pixels ({_name(syntax)}) are damaged or of a form that is not read") from None


def _frames(data_set: Dataset, frames: int) -> Iterator[Frame]:
    from pydicom.pixels import get_decoder

    photometric = str(data_set.get("PhotometricInterpretation", ""))
    decoder = get_decoder(data_set.file_meta.TransferSyntaxUID)
    decoded: Iterator[tuple[npt.NDArray[Any], dict[str, str | int]]]
    if photometric == "YBR_FULL_422" and not data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        # iter_array counts three bytes a pixel, not two, once it has widened the first frame (pydicom 3.0).
        decoded = (decoder.as_array(data_set, index=number, raw=True) for number in range(frames))
    else:
        decoded = decoder.iter_array(data_set, raw=True)
    if photometric in ("MONOCHROME1", "MONOCHROME2"):
        yield from grey_frames(data_set, (frame for frame, _ in decoded), inverted=photometric == "MONOCHROME1")
    elif photometric == "PALETTE COLOR":
        yield from palette_frames(data_set, (frame for frame, _ in decoded))
    else:
        for frame, meaning in decoded:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                raise Refused("colour pixels of more than 8 bits or not of three samples are not read")
            # The decoder's word, not the header's: JPEG 2000 has undone its own transform by now.
            is_ybr = meaning["photometric_interpretation"] in ("YBR_FULL", "YBR_FULL_422")
            yield _rgb_of_ybr(frame) if is_ybr else frame


def _name(syntax: UID) -> str:
    """A transfer syntax in words; one that is in no list may hold anything."""
    return syntax.name if syntax.name != syntax else "an unknown transfer syntax"


def _rgb_of_ybr(frame: Frame) -> Frame:
    """Pillow's fixed-point conversion, within 1 of pydicom's in floating point and four times as fast."""
    from PIL import Image

    image = Image.frombytes("YCbCr", (frame.shape[1], frame.shape[0]), np.ascontiguousarray(frame).tobytes())
    return np.asarray(image.convert("RGB"))


def _check_syntax(syntax: UID) -> None:
    from pydicom.pixels import get_decoder

    if _VIDEO.fullmatch(syntax):
        raise Refused(f"{syntax.name} (video within DICOM) is not read; have it exported as MP4 or as JPEG frames")
    try:
        get_decoder(syntax)
    except NotImplementedError:
        raise Refused(f"its transfer syntax, {_name(syntax)}, is not read; have it exported as JPEG frames") from None


def _check_codec(data_set: Dataset, frames: int) -> None:
    """Refuse before decoding: a missing library, fewer frames than claimed, a frame of another size."""
    syntax = data_set.file_meta.TransferSyntaxUID
    needs_gdcm = syntax in _NEEDS_GDCM or (syntax == _JPEG_12_BIT and int(data_set.get("BitsStored") or 8) > 8)
    if needs_gdcm and not _has_gdcm():
        raise Refused(f"{syntax.name.split(',')[0]} needs python-gdcm: pip install 'echofm[dicom-lossless]'")
    if not syntax.is_encapsulated:
        from pydicom.pixels.utils import get_expected_length

        expected = get_expected_length(data_set)
        if len(data_set.PixelData) < expected:
            raise Refused(f"the pixels are cut: {len(data_set.PixelData)} of {expected} bytes are there")
        return
    from pydicom.encaps import generate_frames

    found = 0
    for frame in generate_frames(data_set.PixelData, number_of_frames=frames):
        found += 1
        if syntax in _PILLOW_READS or _HTJ2K.fullmatch(syntax):
            _check_frame_size(frame, height=int(data_set.Rows), width=int(data_set.Columns), number=found)
    if found != frames:
        raise Refused(f"the header claims {frames} frames, the file holds {found}")


def _check_frame_size(frame: bytes, *, height: int, width: int, number: int) -> None:
    """The compressed frame's own header, read without decoding, must agree with the DICOM header."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
            size = image.size
    except Exception:
        raise Refused(f"frame {number} is no JPEG image: the file is damaged") from None
    if size != (width, height):
        raise Refused(f"frame {number} has {size[1]} x {size[0]} pixels, the header says {height} x {width}")


def _has_gdcm() -> bool:
    from importlib.util import find_spec

    return find_spec("gdcm") is not None
