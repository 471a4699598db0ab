"""The ultrasound sector: everything outside it, burned-in names above all, becomes zero in every frame.

A scanner's screen holds one thing that moves all over and has the shape of a fan: the echo. Names and depth marks stand
still; clocks, heart rates and the ECG change but are small, or stick out of the fan. So the moving pixels' largest
connected part is taken, a fan is fitted to its outline (echofm.readers.fan), and only what is inside of both survives.
Where the outline is not convincingly a fan's, nothing survives: the file is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.fan import Fan, Mask, fit_fan
from echofm.readers.luma import luma
from echofm.readers.refused import Refused

# Grey levels by which a pixel must change over the clip (in a still: which it must reach) to count as echo. Screens
# differ in gain and in codec noise, so each is tried and the one whose outline is most of a fan is taken.
_LEVELS = (3, 6, 12, 24, 40)
# Part of the outline that must lie on the fan; more in a still, where text is not told apart by standing still.
_ENOUGH_MOVING, _ENOUGH_STILL = 0.3, 0.45
# Part of the moving pixels' main body that a fan must hold to be this body's fan.
_HELD = 0.8
# A declared region filled up to here is a zoomed image without a fan's edges.
_FILLED = 0.97
_NONE_FOUND = "no ultrasound sector is found in it, so names beside the image could not be removed"


def apply_sector(decoded: Decoded, *, keep_outside: bool = False) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Frames with zeros outside the sector, and the sector (H, W).

    Refused where none is found; with keep_outside the frames stay as they are, and the sector is then the whole frame.
    """
    frames_TCHW = decoded.frames_TCHW
    try:
        sector_HW = find_sector(decoded)
    except Refused:
        if not keep_outside:
            raise
        return frames_TCHW, np.ones(frames_TCHW.shape[2:], bool)
    if not keep_outside:
        # In place: a clip may take most of the memory that a reader has.
        np.multiply(frames_TCHW, sector_HW, out=frames_TCHW)
    return frames_TCHW, sector_HW


def find_sector(decoded: Decoded) -> Mask:
    """Where the echo is, (H, W) bool. Refused where that cannot be told."""
    grey_THW = _grey(decoded.frames_TCHW)
    shown_HW = grey_THW.max(axis=0)
    is_still = len(grey_THW) == 1
    if not is_still:
        shown_HW = shown_HW - grey_THW.min(axis=0)
    aspect = 1.0
    if decoded.pixel_spacing_mm is not None:
        aspect = decoded.pixel_spacing_mm[0] / decoded.pixel_spacing_mm[1]
    window = _declared_window(decoded)
    sector_HW = np.zeros(shown_HW.shape, bool)
    sector_HW[window] = _sector_of(
        shown_HW[window],
        aspect=aspect,
        enough=_ENOUGH_STILL if is_still else _ENOUGH_MOVING,
        declared=bool(decoded.regions),
    )
    return sector_HW


def _sector_of(shown_HW: npt.NDArray[np.uint8], *, aspect: float, enough: float, declared: bool) -> Mask:
    """The sector by how much each pixel changes."""
    tolerance = max(1.0, min(shown_HW.shape) / 160)
    best: tuple[float, Fan, Mask, bool] | None = None
    for level in _LEVELS:
        blob = _main_body(shown_HW >= level)
        if declared and blob.mean() > _FILLED:
            return np.ones(shown_HW.shape, bool)
        # Paediatric views are often shown with the apex of the fan at the bottom.
        for apex_down in (False, True):
            upright = blob[::-1] if apex_down else blob
            fan = fit_fan(upright, aspect=aspect, tolerance=tolerance)
            if fan is None or fan.evidence < enough:
                continue
            held = (upright & fan.mask(blob.shape, margin=0.0)).sum() / blob.sum()
            if held >= _HELD and (best is None or held * fan.evidence > best[0]):
                best = held * fan.evidence, fan, upright, apex_down
    if best is None:
        raise Refused(_NONE_FOUND)
    _, fan, upright, apex_down = best
    mask = fan.mask(upright.shape, margin=tolerance)
    seen = mask & upright
    if not seen.any():
        raise Refused(_NONE_FOUND)
    # Where the outline is sure, so is the fan in its dark corners; else only what lies between moving pixels is.
    mask = mask & _below_top(seen) if fan.is_sure else _hull(seen)
    return mask[::-1] if apex_down else mask


def _grey(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Luma, so that a clip has one sector whether it is read in grey or in colour."""
    if frames_TCHW.shape[1] == 1:
        return frames_TCHW[:, 0]
    return np.stack([luma(np.moveaxis(frame, 0, 2)) for frame in frames_TCHW])


def _declared_window(decoded: Decoded) -> tuple[slice, slice]:
    """The largest two-dimensional region that the file declares, else the whole image.

    A region bounds the fan, no more: scanners write text into its corners.
    """
    flat = [region for region in decoded.regions if region.spatial_format == 1]
    if not flat:
        return slice(None), slice(None)
    largest = max(flat, key=lambda region: (region.bottom - region.top) * (region.right - region.left))
    return slice(largest.top, largest.bottom + 1), slice(largest.left, largest.right + 1)


def _main_body(shown: Mask) -> Mask:
    """The largest connected part once specks and thin lines are gone, its holes filled."""
    from scipy import ndimage

    reach = max(1, min(shown.shape) // 112)
    disk = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach + 0.5
    labels, count = ndimage.label(ndimage.binary_opening(shown, disk))
    if count == 0:
        return np.zeros_like(shown)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())


def _below_top(seen: Mask) -> Mask:
    """Rows from the first seen one on: above the transducer's face there is no echo."""
    return np.logical_or.accumulate(seen.any(axis=1))[:, None]


def _hull(seen: Mask) -> Mask:
    from skimage.morphology import convex_hull_image

    return convex_hull_image(seen)
