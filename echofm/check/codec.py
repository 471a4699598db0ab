"""How a file stores its pixels, from its header alone."""

from __future__ import annotations

from pathlib import Path

from echofm.readers.suffixes import GIF, METAIMAGE, NIFTI, STILL, media_suffix


def codec_of(path: Path) -> str:
    """ "mjpeg", "h264", a DICOM transfer syntax's name, "NIfTI", ...; "unknown" where the header does not tell."""
    if path.is_dir():
        return "frames"
    suffix = media_suffix(path)
    if suffix in NIFTI | METAIMAGE | STILL | GIF:
        return {".mhd": "MetaImage", ".nii": "NIfTI", ".nii.gz": "NIfTI, gzip"}.get(suffix, suffix[1:].upper())
    try:
        with open(path, "rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        return _transfer_syntax(path) if is_dicom else _stream_codec(path)
    except Exception:
        # The file has been read by now; libraries raise anything over odd headers, and this is only a count.
        return "unknown"


def _stream_codec(path: Path) -> str:
    import av

    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.name


def _transfer_syntax(path: Path) -> str:
    from pydicom.filereader import read_file_meta_info

    return read_file_meta_info(path).TransferSyntaxUID.name
