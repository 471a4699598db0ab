"""The images that a file declares: a screen may show several views, or several times, side by side."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from echofm.readers.decoded import Decoded, Region

TWO_DIMENSIONAL, COLOUR_FLOW = 1, 2
# Another declared image apart from the largest is another view if it is so large against it.
_ANOTHER_VIEW = 0.4


def declared_images(decoded: Decoded) -> list[Decoded]:
    """Each image that the file declares as a clip of its own, left to right and top to bottom; else the whole alone.

    Its pixels are those of its region, its spacing the region's; colour is told by the regions within it.
    """
    views = declared_views(decoded.regions)
    if len(views) < 2:
        return [decoded]
    return [_cut_out(decoded, view) for view in sorted(views, key=lambda view: (view.top, view.left))]


def declared_views(regions: tuple[Region, ...]) -> list[Region]:
    """The two-dimensional regions that lie apart from one another, the largest first, without those far smaller."""
    views: list[Region] = []
    for one in sorted((one for one in regions if one.spatial_format == TWO_DIMENSIONAL), key=area, reverse=True):
        if not views or (area(one) >= _ANOTHER_VIEW * area(views[0]) and all(_apart(one, view) for view in views)):
            views.append(one)
    return views


def image_sha256(file_sha256: bytes, number: int) -> bytes:
    """What an image's id comes from in a file that declares several, counted from 1."""
    return hashlib.sha256(file_sha256 + bytes([number])).digest()


def area(region: Region) -> int:
    """Of a region, in pixels."""
    return (region.bottom - region.top) * (region.right - region.left)


def _apart(one: Region, other: Region) -> bool:
    # Some writers give the far corner one past the last pixel.
    return one.left >= other.right or one.right <= other.left or one.top >= other.bottom or one.bottom <= other.top


def _cut_out(decoded: Decoded, view: Region) -> Decoded:
    rows, columns = slice(view.top, view.bottom + 1), slice(view.left, view.right + 1)
    frames_TCHW = decoded.frames_TCHW[:, :, rows, columns].copy()
    within = [_moved(one, view) for one in decoded.regions if not _apart(one, view)]
    # Of a trace beside the images the header tells; which of them has the colour, their regions.
    kind = decoded.kind
    if kind in ("colour_doppler", "colour_still") and not any(one.data_type == COLOUR_FLOW for one in within):
        kind = None
    return replace(
        decoded,
        frames_TCHW=frames_TCHW,
        chroma_HW=None if decoded.chroma_HW is None else decoded.chroma_HW[rows, columns],
        kind=kind,
        pixel_spacing_mm=view.spacing_mm or decoded.pixel_spacing_mm,
        regions=tuple(within),
    )


def _moved(one: Region, view: Region) -> Region:
    """A region in the pixels of a view, what reaches out of it left out."""
    return replace(
        one,
        top=max(one.top, view.top) - view.top,
        bottom=min(one.bottom, view.bottom) - view.top,
        left=max(one.left, view.left) - view.left,
        right=min(one.right, view.right) - view.left,
    )
