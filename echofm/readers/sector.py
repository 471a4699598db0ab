"""The ultrasound sector: everything outside it, burned-in names above all, becomes zero in every frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.fan import Fan, fit_fan
from echofm.readers.luma import luma
from echofm.readers.refused import Refused

Mask = npt.NDArray[np.bool_]

# Grey levels that a pixel must change by, over the clip, to count as echo; the best fitting one is taken.
_CHANGES = (3, 6, 12, 24)
_ENOUGH_EVIDENCE = 0.3


def apply_sector(decoded: Decoded, *, keep_outside: bool = False) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Frames with zeros outside the sector, and the sector (H, W). Refused where none is found."""
    frames_TCHW = decoded.frames_TCHW
    try:
        sector_HW = find_sector(decoded)
    except Refused:
        if not keep_outside:
            raise
        sector_HW = np.ones(frames_TCHW.shape[2:], bool)
    if not keep_outside:
        frames_TCHW = frames_TCHW * sector_HW
    return frames_TCHW, sector_HW


def find_sector(decoded: Decoded) -> Mask:
    """Where the echo is: (H, W) bool."""
    grey_THW = _grey(decoded.frames_TCHW)
    brightest_HW = grey_THW.max(axis=0)
    shown_HW = brightest_HW - grey_THW.min(axis=0) if len(grey_THW) > 1 else brightest_HW
    region = _largest_region(decoded)
    if region is not None:
        inside = np.zeros_like(shown_HW)
        inside[region] = shown_HW[region]
        shown_HW = inside
    aspect = 1.0
    if decoded.pixel_spacing_mm is not None:
        aspect = decoded.pixel_spacing_mm[0] / decoded.pixel_spacing_mm[1]
    best: tuple[float, Fan, Mask, bool] | None = None
    tolerance = max(1.0, min(shown_HW.shape) / 160)
    for change in _CHANGES:
        blob = _main_blob(shown_HW >= change)
        for apex_down in (False, True):
            fan = fit_fan(blob[::-1] if apex_down else blob, aspect=aspect, tolerance=tolerance)
            if fan is not None and (best is None or fan.evidence > best[0]):
                best = fan.evidence, fan, blob, apex_down
    if best is None or best[0] < _ENOUGH_EVIDENCE:
        raise Refused("no ultrasound sector is found in it, so text beside the image could not be removed")
    _, fan, blob, apex_down = best
    mask = fan.mask(blob.shape, margin=tolerance)
    mask = mask[::-1] if apex_down else mask
    if region is not None:
        limited = np.zeros_like(mask)
        limited[region] = mask[region]
        mask = limited
    return mask & _hull(mask & blob)


def _grey(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Luma, so that a clip has one sector whether it is read in grey or in colour."""
    if frames_TCHW.shape[1] == 1:
        return frames_TCHW[:, 0]
    return np.stack([luma(np.moveaxis(frame, 0, 2)) for frame in frames_TCHW])


def _hull(blob: Mask) -> Mask:
    from skimage.morphology import convex_hull_image

    if not blob.any():
        raise Refused("no ultrasound sector is found in it, so text beside the image could not be removed")
    return convex_hull_image(blob)


def _largest_region(decoded: Decoded) -> tuple[slice, slice] | None:
    two_dimensional = [region for region in decoded.regions if region.spatial_format == 1]
    if not two_dimensional:
        return None
    largest = max(two_dimensional, key=lambda region: (region.bottom - region.top) * (region.right - region.left))
    return slice(largest.top, largest.bottom + 1), slice(largest.left, largest.right + 1)


def _main_blob(shown: Mask) -> Mask:
    """The largest connected part once specks are gone and speckle's holes are bridged."""
    from scipy import ndimage

    reach = max(1, min(shown.shape) // 112)
    disk = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach + 0.5
    opened = ndimage.binary_opening(shown, disk)
    labels, count = ndimage.label(opened)
    if count == 0:
        return opened
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())
