"""Which files count as echo media, by suffix."""

from __future__ import annotations

from pathlib import Path

VIDEO = frozenset([".avi", ".mp4", ".m4v", ".mov", ".mkv"])
DICOM = frozenset([".dcm", ".dicom"])
NIFTI = frozenset([".nii", ".nii.gz"])
METAIMAGE = frozenset([".mhd"])
STILL = frozenset([".png", ".jpg", ".jpeg"])
MEDIA = VIDEO | DICOM | NIFTI | METAIMAGE | STILL


def media_suffix(path: str | Path) -> str:
    """The suffix that tells the format, lower case, `.nii.gz` as one; "" where the name has none."""
    path = Path(path)
    suffix = path.suffix.lower()
    return ".nii.gz" if suffix == ".gz" and path.stem.lower().endswith(".nii") else suffix


def is_media(path: str | Path) -> bool:
    """Whether a file's name says that it holds an echo. DICOM exported without a suffix is not told by name."""
    return media_suffix(path) in MEDIA


def stem_of(path: Path) -> str:
    """The file's name without its suffix, `.nii.gz` counting as one; a DICOM name's last number is no suffix."""
    suffix = media_suffix(path)
    return path.name[: -len(suffix)] if suffix in MEDIA else path.name
