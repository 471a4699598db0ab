"""PALETTE COLOR: numbers of colours become RGB, by tables that writers fill in several ways (PS3.3 C.7.6.3.1.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from echofm.readers.refused import Refused

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOURS = ("Red", "Green", "Blue")
# Widths in bits of what 16-bit words hold; the descriptor's own word on it is wrong as often as right.
_WIDTHS = (8, 10, 12, 16)


def palette_frames(data_set: Dataset, raw: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB frames (H, W, 3) uint8. Refused where a table is missing or holds fewer entries than it claims."""
    if "RedPaletteColorLookupTableData" not in data_set:
        yield from _segmented(data_set, raw)
        return
    first = int(data_set.RedPaletteColorLookupTableDescriptor[1])
    tables = [_entries(data_set, colour) for colour in _COLOURS]
    largest = max(int(table.max()) for table in tables)
    shift = next(width for width in _WIDTHS if largest < 1 << width) - 8
    shortest = min(map(len, tables))
    rgb_N3 = np.stack([(table[:shortest] >> shift).astype(np.uint8) for table in tables], axis=1)
    for frame in raw:
        yield rgb_N3[np.clip(frame.astype(np.int32) - first, 0, shortest - 1)]


def _entries(data_set: Dataset, colour: str) -> npt.NDArray[np.uint16]:
    """One table: bytes where there is one a entry, else 16-bit words."""
    count = int(data_set[f"{colour}PaletteColorLookupTableDescriptor"].value[0]) % 65_536 or 65_536
    stored = data_set[f"{colour}PaletteColorLookupTableData"].value
    if not isinstance(stored, bytes):
        return np.atleast_1d(np.asarray(stored, np.uint16))
    order = "<" if data_set.original_encoding[1] else ">"
    words = len(stored) >= 2 * count
    if len(stored) < count:
        raise Refused("its palette is cut: it holds fewer colours than its descriptor claims")
    return np.frombuffer(stored, np.dtype(f"{order}u2") if words else np.uint8, count).astype(np.uint16)


def _segmented(data_set: Dataset, raw: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
    from pydicom.pixels import apply_color_lut

    for frame in raw:
        rgb = apply_color_lut(frame, data_set)[..., :3]
        # 16-bit palettes carry the colour in their high byte.
        yield rgb.astype(np.uint8) if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)
