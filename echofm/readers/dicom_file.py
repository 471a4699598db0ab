"""A DICOM file opened: with its preamble and header (PS3.10), or the data set alone, as some archives send it."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_MAGIC_AT = 128
# The groups that a file without preamble starts with: its header, or the identification of the data set.
_FIRST_GROUPS = (2, 8)
_LONG_VALUES = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"UC", b"UR", b"OD", b"OL")


def is_dicom(head: bytes) -> bool:
    """Whether a file starts as DICOM does: by its magic, else by two tags that follow one another."""
    if head[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM":
        return True
    return any(_starts_with_tags(head, order) for order in "<>")


def _starts_with_tags(head: bytes, order: str) -> bool:
    first = _tag(head, 0, order)
    if first is None or first[0] not in _FIRST_GROUPS:
        return False
    second = _tag(head, first[2], order)
    return second is not None and first[0] <= second[0] <= 0x20 and first[:2] < second[:2]


def _tag(head: bytes, start: int, order: str) -> tuple[int, int, int] | None:
    """Group and element of the tag at `start`, and where the next one is; None where there cannot be one."""
    if len(head) < start + 12:
        return None
    group, element = struct.unpack_from(f"{order}HH", head, start)
    form = head[start + 4 : start + 6]
    if form.isalpha() and form.isupper():
        if form in _LONG_VALUES:
            return group, element, start + 12 + struct.unpack_from(f"{order}L", head, start + 8)[0]
        return group, element, start + 8 + struct.unpack_from(f"{order}H", head, start + 6)[0]
    return group, element, start + 8 + struct.unpack_from(f"{order}L", head, start + 4)[0]


def read_data_set(source: BinaryIO) -> Dataset:
    """The whole file. Refused where it is deflated, or lacks the header without which its pixels cannot be known."""
    import pydicom

    source.seek(_MAGIC_AT)
    if source.read(4) == b"DICM":
        _refuse_deflated(source)
    source.seek(0)
    data_set = pydicom.dcmread(source, force=True)
    if not data_set.file_meta.get("TransferSyntaxUID"):
        if "PixelData" in data_set and data_set["PixelData"].is_undefined_length:
            raise Refused("it lacks the DICOM file header (meta information) that names how its pixels are compressed")
        is_implicit, is_little_endian = data_set.original_encoding
        plain = _IMPLICIT if is_implicit else _EXPLICIT if is_little_endian else _BIG_ENDIAN
        data_set.file_meta.TransferSyntaxUID = pydicom.uid.UID(plain)
    return data_set


def fill_in_pixel_tags(data_set: Dataset) -> None:
    """Give tags of the pixels that a writer left out the value that viewers take. Refused without a photometric one."""
    photometric = str(data_set.get("PhotometricInterpretation") or "")
    if not photometric:
        raise Refused("it lacks PhotometricInterpretation, which says what its pixel values mean")
    allocated = data_set.get("BitsAllocated") or 8
    is_grey = photometric.startswith(("MONOCHROME", "PALETTE"))
    defaults = {
        "SamplesPerPixel": 1 if is_grey else 3,
        "PlanarConfiguration": 0,
        "BitsAllocated": allocated,
        "BitsStored": allocated,
        "HighBit": int(data_set.get("BitsStored") or allocated) - 1,
        "PixelRepresentation": 0,
    }
    for tag, value in defaults.items():
        if data_set.get(tag) is None:
            setattr(data_set, tag, value)


def _refuse_deflated(source: BinaryIO) -> None:
    """The deflated transfer syntax inflates the whole file at once, unbounded; no scanner writes it."""
    from pydicom.filereader import read_dataset

    meta = read_dataset(source, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == _DEFLATED:
        raise Refused("deflated DICOM is not read, as its size cannot be told before; write it uncompressed")


@contextmanager
def silent_pydicom() -> Iterator[None]:
    """pydicom's warnings and log lines quote values, and values are the patient's."""
    log = logging.getLogger("pydicom")
    was_disabled = log.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = was_disabled
