"""What a DICOM object is, by its class, modality, transducer and declared regions (PS3.3, PS3.4 B.5)."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from echofm.readers.decoded import Region
from echofm.readers.images import COLOUR_FLOW, TWO_DIMENSIONAL
from echofm.readers.kinds import no_clip

if TYPE_CHECKING:
    from pydicom import Dataset

# DICOM PS3.3 C.8.5.5.1: values of Region Spatial Format, and the unit code "cm".
_M_MODE, _SPECTRAL, _WAVEFORM, _GRAPHICS = 2, 3, 4, 5
_CENTIMETRE = 3
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ULTRASOUND = tuple(_STORAGE + each for each in ("3", "3.1", "6", "6.1"))
_CLASSES = {
    "1.2.840.10008.1.3.10": "dicomdir",
    "1.2.840.113543.6.6.1.3.10002": "volume",  # Philips, private
    _STORAGE + "6.2": "volume",
}
# Classes of storage by the first number after their common root.
_FAMILIES = {
    "1": "xray", "2": "ct", "4": "mr", "9": "waveform", "11": "presentation_state", "12": "xray", "13": "xray",
    "14": "intravascular", "20": "nuclear", "66": "raw_data", "77": "photograph", "88": "structured_report",
    "104": "document", "128": "nuclear", "130": "nuclear", "481": "radiotherapy",
}  # fmt: skip
_MODALITIES = {
    "CT": "ct", "MR": "mr", "XA": "xray", "RF": "xray", "CR": "xray", "DX": "xray", "MG": "xray", "NM": "nuclear",
    "PT": "nuclear", "IVUS": "intravascular", "IVOCT": "intravascular", "OCT": "photograph", "ES": "photograph",
    "OP": "photograph", "SM": "photograph", "GM": "photograph", "XC": "photograph", "ECG": "waveform",
    "HD": "waveform", "EPS": "waveform", "SR": "structured_report", "DOC": "document", "PR": "presentation_state",
    "KO": "structured_report", "SEG": "raw_data", "REG": "raw_data",
}  # fmt: skip
_SLICE_LOCATION_VECTOR = 0x00182005


def check_object(data_set: Dataset) -> None:
    """Refuse, by its kind, an object that is sound but no image of an echo."""
    kind = _kind_of_object(data_set)
    if kind is not None:
        raise no_clip(kind)


def _kind_of_object(data_set: Dataset) -> str | None:
    name = str(data_set.get("SOPClassUID") or data_set.file_meta.get("MediaStorageSOPClassUID") or "")
    modality = str(data_set.get("Modality") or "").strip().upper()
    kind = _CLASSES.get(name)
    if kind is None and name.startswith(_STORAGE):
        kind = _FAMILIES.get(name.removeprefix(_STORAGE).split(".")[0])
    if kind is None and (name not in _ULTRASOUND or modality == "IVUS"):
        kind = _MODALITIES.get(modality)
    if kind is not None:
        return kind
    if _is_volume(data_set):
        return "volume"
    if not any(name in data_set for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return None if name in _ULTRASOUND or "Rows" in data_set else "no_image"
    return "linear_array" if str(data_set.get("TransducerType") or "").strip().upper() == "LINEAR" else None


def _is_volume(data_set: Dataset) -> bool:
    """Whether the frames lie side by side in space: by the dimensions that they are sorted by."""
    if str(data_set.get("DimensionOrganizationType") or "").startswith("3D"):
        return True
    pointer = data_set.get("FrameIncrementPointer")
    pointers = pointer if isinstance(pointer, list | tuple) else [pointer]
    if _SLICE_LOCATION_VECTOR in [each for each in pointers if each is not None]:
        return True
    groups = data_set.get("PerFrameFunctionalGroupsSequence") or ()
    return any("PlanePositionVolumeSequence" in group for group in groups)


def declared_regions(data_set: Dataset, *, height: int, width: int) -> tuple[Region, ...]:
    """Declared regions; none where one lies outside the image, as in copies that were resized afterwards."""
    regions = []
    for item in data_set.get("SequenceOfUltrasoundRegions") or ():
        region = Region(
            top=whole(item.get("RegionLocationMinY0")),
            left=whole(item.get("RegionLocationMinX0")),
            bottom=whole(item.get("RegionLocationMaxY1")),
            right=whole(item.get("RegionLocationMaxX1")),
            spatial_format=whole(item.get("RegionSpatialFormat")),
            data_type=whole(item.get("RegionDataType")),
            spacing_mm=_spacing_mm(item),
        )
        # Some writers give the far corner one past the last pixel.
        if not (0 <= region.top < region.bottom <= height and 0 <= region.left < region.right <= width):
            return ()
        regions.append(region)
    return tuple(regions)


def _spacing_mm(item: Dataset) -> tuple[float, float] | None:
    units = {whole(item.get("PhysicalUnitsXDirection")), whole(item.get("PhysicalUnitsYDirection"))}
    return positive_pair(item.get("PhysicalDeltaY"), item.get("PhysicalDeltaX"), 10) if units == {_CENTIMETRE} else None


def kind_by_regions(data_set: Dataset, frames: int) -> str | None:
    """What the regions say that the screen shows; None where only the pixels can tell. Refused where it is no image."""
    declared = data_set.get("SequenceOfUltrasoundRegions") or ()
    formats = {whole(item.get("RegionSpatialFormat")) for item in declared}
    types = {whole(item.get("RegionDataType")) for item in declared}
    for format_, kind in ((_SPECTRAL, "spectral"), (_M_MODE, "m_mode")):
        if format_ in formats:
            if TWO_DIMENSIONAL not in formats:
                raise no_clip(kind)
            return kind
    if formats and formats <= {_WAVEFORM, _GRAPHICS}:
        raise no_clip("graphics")
    if COLOUR_FLOW in types:
        return "colour_still" if frames == 1 else "colour_doppler"
    return None


def number(value: Any) -> float:
    """A numeric tag; NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def positive_pair(row: Any, column: Any, scale: float = 1) -> tuple[float, float] | None:
    """Two lengths times a scale; None where one is none. A region's may be negative: it tells the axis' direction."""
    pair = abs(number(row)) * scale, abs(number(column)) * scale
    return pair if all(isfinite(value) and value > 0 for value in pair) else None


def whole(value: Any) -> int:
    """An integer tag; 0, which the limits refuse, where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
