"""Which files count as echo media, by suffix."""

from __future__ import annotations

from pathlib import Path

VIDEO = frozenset([".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm"])
DICOM = frozenset([".dcm", ".dicom"])
NIFTI = frozenset([".nii", ".nii.gz"])
METAIMAGE = frozenset([".mhd"])
GIF = frozenset([".gif"])
STILL = frozenset([".png", ".jpg", ".jpeg"])
MEDIA = VIDEO | DICOM | NIFTI | METAIMAGE | GIF | STILL
# What lies beside echoes and is named when it is passed over; any other suffix may be a part of a name.
_UNREAD = """
    .wmv .asf .mpg .mpeg .m2v .vob .ts .mts .m2ts .flv .3gp .ogv .ogg .mp3 .wav .bmp .tif .tiff .webp .svg .psd
    .pdf .txt .rtf .doc .docx .odt .xls .xlsx .ods .ppt .pptx .csv .tsv .json .jsonl .xml .html .htm .md .log
    .cfg .ini .inf .yaml .yml .zip .rar .7z .tar .gz .bz2 .xz .iso .npy .npz .mat .h5 .hdf5 .pkl .pt .pth
    .parquet .raw .zraw .nrrd .py .ipynb .sh .js .css .exe .dll .bat .jar .db .sqlite .lnk .url
"""
UNREAD = frozenset(_UNREAD.split())


def media_suffix(path: str | Path) -> str:
    """The suffix that tells the format, lower case, `.nii.gz` as one; "" where the name has none."""
    path = Path(path)
    suffix = path.suffix.lower()
    return ".nii.gz" if suffix == ".gz" and path.stem.lower().endswith(".nii") else suffix


def is_media(path: str | Path) -> bool:
    """Whether a file's name says that it holds an echo. DICOM exported without a suffix is not told by name."""
    return media_suffix(path) in MEDIA


def unread_kind(path: Path) -> str:
    """What a file that is not read is counted as: its suffix where that is a usual one."""
    if path.name.startswith("."):
        return "hidden"
    suffix = path.suffix.lower()
    return suffix if suffix in UNREAD else "other"


def is_companion(path: Path) -> bool:
    """Whether a file holds the pixels of a MetaImage header beside it, and is read with that."""
    return path.suffix.lower() in (".raw", ".zraw") and path.with_suffix(".mhd").is_file()


def stem_of(path: Path) -> str:
    """The file's name without its suffix, `.nii.gz` counting as one; a DICOM name's last number is no suffix."""
    suffix = media_suffix(path)
    return path.name[: -len(suffix)] if suffix in MEDIA else path.name
