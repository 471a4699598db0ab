"""The ultrasound sector: everything outside it, burned-in names above all, becomes zero in every frame.

A scanner's screen holds one thing that moves all over and has the shape of a fan: the echo. Names and depth marks stand
still; clocks, heart rates and the ECG change but are small, drawn in one brightness, or stick out of the fan. So the
moving pixels' largest connected part is taken, a fan is fitted to its outline (echofm.readers.fan_fit), and only what
is inside of both survives. Where the outline is not convincingly a fan's, nothing survives: the file is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded
from echofm.readers.fan import Fan, Mask
from echofm.readers.fan_fit import fit_fan
from echofm.readers.luma import luma
from echofm.readers.refused import Refused

# Grey levels by which a pixel must change over the clip (in a still: which it must reach) to count as echo. Screens
# differ in gain and in codec noise, so each is tried. Dense where a codec's noise beside the fan ends and speckle in
# its dark edges begins: of a short clip only one of 6, 8 and 12 may show both edges clean.
_LEVELS = (4, 6, 8, 12, 24, 40)
# Tried where none of those shows a sure fan: in some clips a single level does.
_BETWEEN = (9, 10, 11, 14)
# The level that moves beyond doubt: more than a codec's noise round still text.
_BEYOND_DOUBT = _LEVELS.index(24)
# Part of the outline that must lie on the fan; more in a still, where text is not told apart by standing still.
_ENOUGH_MOVING, _ENOUGH_STILL = 0.12, 0.35
# Agreement of the fan's area with that of the moving pixels' main body, at most 1 (fan.Fan.fit).
_ENOUGH_FIT = 0.5
# Part of the screen, or of the declared region, that an echo takes at least: text that changes is smaller.
_SMALLEST = 0.08
# A declared region filled up to here is a zoomed image without a fan's edges.
_FILLED = 0.97
# Frames and grey levels of change from which on switching can be told from change.
_FRAMES_TO_TELL, _STRONG = 8, 24
# Part of the frames in which a drawn pixel is at one of its two ends. Measured, as medians over pixels: text redrawn
# at random in every frame .78, speckle of the real cines .05 to .37.
_SETTLED = 0.62


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
    is_still = len(grey_THW) == 1
    shown_HW = grey_THW[0] if is_still else _motion(grey_THW)
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
    # Large screens are searched at half size or less: an edge is no sharper than the speckle that shows it.
    step = max(1, min(shown_HW.shape) // 200)
    height, width = (size // step for size in shown_HW.shape)
    small_HW = shown_HW[: height * step, : width * step].reshape(height, step, width, step).max(axis=(1, 3))
    bodies = [_main_body(small_HW >= level) for level in _LEVELS]
    if declared and bodies[0].mean() > _FILLED:
        return np.ones(shown_HW.shape, bool)
    found = _best_fan(bodies, aspect=aspect, enough=enough)
    if found is None or not found[0].is_sure:
        bodies += [_main_body(small_HW >= level) for level in _BETWEEN]
        found = _best_fan(bodies, aspect=aspect, enough=enough)
    if found is None or not found[0].is_sure:
        # Paediatric views are often shown with the apex of the fan at the bottom.
        turned = _best_fan([body[::-1] for body in bodies], aspect=aspect, enough=enough)
        if turned is not None and (found is None or turned[0].rank > found[0].rank):
            found = turned[0], turned[1][::-1]
    if found is None:
        raise Refused("no ultrasound sector is found in it, so names beside the image could not be removed")
    whole_HW = np.zeros(shown_HW.shape, bool)
    whole_HW[: height * step, : width * step] = found[1].repeat(step, axis=0).repeat(step, axis=1)
    return whole_HW


def _best_fan(bodies: list[Mask], *, aspect: float, enough: float) -> tuple[Fan, Mask] | None:
    """The fan, apex up, of the body whose outline is most of one, and the sector; None where none is enough of one.

    A sure fan goes before any other, as that is all that can be made of an unsure one: its surely moving part.
    """
    fans = [(fit_fan(body, aspect=aspect, tolerance=1.0), body) for body in bodies]
    convincing = [(fan, body) for fan, body in fans if fan and fan.evidence >= enough and fan.fit >= _ENOUGH_FIT]
    if not convincing:
        return None
    fan, body = max(convincing, key=lambda pair: pair[0].rank)
    mask = fan.mask(body.shape, margin=1.0)
    seen = mask & body
    if seen.mean() < _SMALLEST:
        return None
    if fan.is_sure:
        # So is it then in its dark corners.
        return fan, mask & _below_top(seen)
    # Else only what lies between pixels that move beyond doubt, by more than a codec's noise round still text.
    moving = mask & bodies[_BEYOND_DOUBT]
    return (fan, _hull(moving)) if moving.any() else None


def _motion(grey_THW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """By how much each pixel changes over the clip; 0 where most pixels around it only switch between two values.

    Digits, clocks and the trace of an ECG are drawn in one brightness, so their pixels are on or off; speckle takes
    every value between.
    """
    from scipy import ndimage

    low_HW, high_HW = grey_THW.min(axis=0), grey_THW.max(axis=0)
    change_HW = high_HW - low_HW
    if len(grey_THW) < _FRAMES_TO_TELL:
        return change_HW
    same_HW = np.maximum(change_HW // 10, 3)
    some_THW = grey_THW[:: max(1, len(grey_THW) // 64)]
    settled_HW = np.zeros(change_HW.shape, np.float32)
    for frame_HW in some_THW:
        # Unsigned arithmetic: no frame is below the low, none above the high.
        settled_HW += (high_HW - frame_HW <= same_HW) | (frame_HW - low_HW <= same_HW)
    settled_HW /= len(some_THW)
    strong_HW = change_HW > _STRONG
    window = 4 * _reach(change_HW) + 1
    strong_share_HW = ndimage.uniform_filter(strong_HW.astype(np.float32), window)
    settled_share_HW = ndimage.uniform_filter(settled_HW * strong_HW, window)
    is_drawn_HW = (settled_share_HW >= _SETTLED * strong_share_HW) & (strong_share_HW >= 0.2)
    return change_HW * ~is_drawn_HW


def _reach(image_HW: npt.NDArray[Any]) -> int:
    """Radius in pixels of specks and thin lines: one in an image of EchoNet-Dynamic's size."""
    return max(1, min(image_HW.shape) // 112)


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

    reach = _reach(shown)
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
