"""MONOCHROME1 and 2: stored values of any width become 8-bit grey by the file's rescale and window."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset

# Some anonymisers leave these in the file without a value.
_NUMBERS = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")
# Where enhanced objects keep them: in functional groups, of all frames or of each.
_IN_GROUPS = ("FrameVOILUTSequence", "PixelValueTransformationSequence")


def grey_frames(
    data_set: Dataset, raw: Iterator[npt.NDArray[Any]], *, inverted: bool
) -> Iterator[npt.NDArray[np.uint8]]:
    """Grey frames (H, W) uint8 through the modality and window tables of the file, one scale for all.

    Without a window 8 bits stay as they are, and more are scaled from the clip's least to its largest value.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    _mend(data_set)
    stored = deque(frame.astype(frame.dtype.newbyteorder("="), copy=False) for frame in raw)
    kind = stored[0].dtype
    if kind.itemsize > 2 or kind.kind not in "iu":
        raise Refused("grey pixels of more than 16 bits are not read")
    # One table over all values that can be stored, indexed by their bits read as unsigned.
    bits = np.dtype(f"u{kind.itemsize}")
    every_value = np.arange(2 ** (8 * kind.itemsize), dtype=bits).view(kind)
    shown = np.asarray(apply_modality_lut(every_value, data_set))
    if _has_window(data_set):
        shown = np.asarray(apply_voi_lut(shown, data_set), np.float64)
        low, high = shown.min(), shown.max()
    elif kind == np.uint8:
        shown, low, high = every_value.astype(np.float64), 0.0, 255.0
    else:
        used = [shown[edge.view(bits)] for frame in stored for edge in (frame.min(), frame.max())]
        low, high = min(used), max(used)
    table = np.clip((shown - low) * (255 / max(high - low, 1e-9)), 0, 255).round().astype(np.uint8)
    table = 255 - table if inverted else table
    while stored:  # each frame goes as soon as it is converted
        yield table[stored.popleft().view(bits)]


def _mend(data_set: Dataset) -> None:
    """Bring the tags of grey to where they are looked for; what has no value, or a window of no width, goes."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for name in _IN_GROUPS:
            for item in (data_set.get(groups) or [{}])[0].get(name) or ():
                for tag in _NUMBERS:
                    if tag in item and tag not in data_set:
                        setattr(data_set, tag, item.get(tag))
    for tag in _NUMBERS:
        if tag in data_set and data_set[tag].is_empty:
            del data_set[tag]
    if "WindowCenter" in data_set and "WindowWidth" in data_set:
        window = _first_window(data_set)
        for tag, value in zip(("WindowCenter", "WindowWidth"), window or (None, None)):
            if value is None:
                del data_set[tag]
            else:
                setattr(data_set, tag, value)


def _first_window(data_set: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window that shows anything (PS3.3 C.11.2.1.2: a linear one has a width >= 1)."""
    is_linear = str(data_set.get("VOILUTFunction") or "LINEAR").strip() == "LINEAR"
    for centre, width in zip(_numbers(data_set.WindowCenter), _numbers(data_set.WindowWidth)):
        if math.isfinite(centre) and math.isfinite(width) and (width >= 1 or (width > 0 and not is_linear)):
            return centre, width
    return None


def _numbers(value: Any) -> list[float]:
    many = value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else [value]
    numbers = []
    for each in many:
        try:
            numbers.append(float(each))
        except (TypeError, ValueError):
            numbers.append(math.nan)
    return numbers


def _has_window(data_set: Dataset) -> bool:
    """Whether pydicom finds a window or a table of grey values to apply: without one it changes nothing."""
    tables = data_set.get("VOILUTSequence")
    if tables and None not in (tables[0].get("LUTDescriptor"), tables[0].get("LUTData")):
        return True
    return "WindowCenter" in data_set and "WindowWidth" in data_set
