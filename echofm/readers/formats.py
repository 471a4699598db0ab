"""Which reader a file goes to, by its content: suffixes lie."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from echofm.readers.decoded import Decoded
from echofm.readers.decord_video import Decoder
from echofm.readers.dicom_file import is_dicom
from echofm.readers.frames import decode_gif, is_gif
from echofm.readers.limits import Limits
from echofm.readers.metaimage import decode_metaimage, is_metaimage
from echofm.readers.nifti import decode_nifti, is_nifti
from echofm.readers.refused import Refused
from echofm.readers.still import decode_still, is_still
from echofm.readers.video import container_format, decode_video

# Enough to tell a format, and two tags of a DICOM file without a preamble.
HEAD_BYTES = 512


def is_known(head: bytes) -> bool:
    """Whether a file's first bytes are those of a format that needs no suffix to be told."""
    return bool(container_format(head)) or is_dicom(head) or is_still(head) or is_gif(head)


def decode(source: BinaryIO, *, path: Path, channels: int, limits: Limits, decoder: Decoder = "pyav") -> Decoded:
    """Decode by the format that the first bytes tell; any fault of a library becomes a reason of ours.

    Refused where the content is of no format that is read here, or is damaged.
    """
    head = source.read(HEAD_BYTES)
    source.seek(0)
    try:
        if container := container_format(head):
            return decode_video(source, container=container, channels=channels, limits=limits, decoder=decoder)
        if is_dicom(head):
            from echofm.readers.dicom import decode_dicom

            return decode_dicom(source, channels=channels, limits=limits)
        if is_gif(head):
            return decode_gif(source, channels=channels, limits=limits)
        if is_still(head):
            return decode_still(source, channels=channels, limits=limits)
        if is_metaimage(head):
            return decode_metaimage(source, path=path, channels=channels, limits=limits)
        if is_nifti(source):
            return decode_nifti(source, channels=channels, limits=limits)
    except (Refused, MemoryError, RecursionError):
        raise
    except Exception as error:
        # A library's own text may quote a tag or a path, so only the kind of fault is told.
        raise Refused(f"it is damaged or of a form that is not read ({type(error).__name__})") from None
    raise Refused("its content is no AVI, MP4, MOV, MKV, WebM, GIF, DICOM, NIfTI, MetaImage, PNG or JPEG")
