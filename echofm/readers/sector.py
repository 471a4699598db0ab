"""The ultrasound sector: everything outside it, burned-in names above all, becomes zero in every frame.

A scanner's screen holds one thing that has the shape of a fan: the echo. Names and depth marks stand still beside it;
clocks, heart rates and the ECG change but do not fill a fan. So the fan that holds most of what changes is sought
(echofm.readers.fan_fit), and only what is inside of it survives. Where its flanks are not seen, nothing survives: the
file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.fan import Fan
from echofm.readers.composite import several_fans
from echofm.readers.decoded import Decoded
from echofm.readers.evidence import Echo, Evidence, evidence_of, looked_at
from echofm.readers.fan_fit import Fit, fit_fan
from echofm.readers.images import declared_views
from echofm.readers.kinds import no_clip
from echofm.readers.luma import luma
from echofm.readers.words import apart_in, clocks_in, words_in

Mask = npt.NDArray[np.bool_]

# Seen shares of the flanks that convince: each in a still, where text is not told apart by standing still; in a cine
# the larger one and both together.
_STILL_EACH, _CINE_ONE, _CINE_BOTH = 0.5, 0.4, 0.9
# The widest fan, and the longest face of a transducer against the depth: what is wider is no fan of one heart.
_WIDEST_RAD, _MOST_FACE = np.radians(125), 0.5
# Part of the screen, or of the declared region, that an echo takes at least: text that changes is smaller.
_SMALLEST = 0.06
# Part of the fan's cells that show echo at least: words and curves are thin.
_THINNEST = 0.25
# Echo outside the fan, in blocks as thick as 1/_BLOCK of the screen, against that inside: another image.
_OTHER_IMAGE, _BLOCK = 0.2, 32
# A declared region whose echo fills so much of it, and each of its corners, is a zoomed image without a fan's edges.
_FILLED, _CORNER_FILLED, _CORNER = 0.85, 0.5, 8
# Digits that change: cells by which a codec blurs them, the part of them that lies beside the fan found without them or
# apart from the echo, and the part of a fan that they take at most.
_RIM, _BESIDE, _MOST_CLOCKS = 2, 0.5, 0.17
# Of the changing cells in a declared region the part that must lie in the fan drawn into it.
_IN_DECLARED = 0.98
# A sector that leaves out more than this part of what changes may have cut the heart: `check` and `shards` tell.
LOST = 0.05


@dataclass(frozen=True, kw_only=True)
class Sector:
    """Where the echo is: mask_HW, and the fan that it is, in pixels; None where the whole region shows echo.

    lit_outside: as in `Clip`.
    """

    mask_HW: Mask
    fan: Fan | None
    lit_outside: float | None = None


def apply_sector(
    decoded: Decoded, *, keep_outside: bool = False, find: Callable[[Decoded], Sector] | None = None
) -> tuple[npt.NDArray[np.uint8], Sector]:
    """Frames with zeros outside the sector, and the sector. find: by default `find_sector`.

    Refused where none is found; with keep_outside the frames stay as they are, and the sector is then the whole frame.
    """
    from echofm.readers.refused import Refused

    frames_TCHW = decoded.frames_TCHW
    try:
        sector = (find or find_sector)(decoded)
    except Refused:
        if not keep_outside:
            raise
        return frames_TCHW, Sector(mask_HW=np.ones(frames_TCHW.shape[2:], bool), fan=None)
    if not keep_outside:
        # In place: a clip may take most of the memory that a reader has.
        np.multiply(frames_TCHW, sector.mask_HW, out=frames_TCHW)
    return frames_TCHW, sector


def find_sector(decoded: Decoded) -> Sector:
    """Where the echo is. Refused where that cannot be told, or where there are several images."""
    shape = decoded.frames_TCHW.shape[2:]
    rows, columns = _declared_window(decoded)
    some = looked_at(len(decoded.frames_TCHW))
    evidence = evidence_of(grey_frames(decoded.frames_TCHW[some][:, :, rows, columns]))
    if decoded.regions and _is_filled(evidence.dimmest):
        mask_HW = np.zeros(shape, bool)
        mask_HW[rows, columns] = True
        return Sector(mask_HW=mask_HW, fan=None)
    fan = _convincing_fan(evidence)
    clocks_HW = np.zeros_like(evidence.dimmest, bool)
    if fan is not None and (clocks_HW := _clocks_beside(evidence, fan)).any():
        evidence = evidence.without(clocks_HW)
        fan = _convincing_fan(evidence)
    if fan is None and decoded.regions:
        fan = _fan_of_declared(evidence.change)
    if fan is None:
        raise no_clip("several_images" if several_fans(evidence, _upright_fan) else "no_sector")
    words_HW = clocks_HW | words_in(evidence, fan.mask(evidence.dimmest.shape))
    fan = fan.placed(scale=evidence.step).placed(row=rows.start or 0, column=columns.start or 0)
    mask_HW = fan.mask(shape)
    within_HW = mask_HW[rows, columns]
    pixels_HW = words_HW.repeat(evidence.step, axis=0).repeat(evidence.step, axis=1)
    within_HW[: len(pixels_HW), : pixels_HW.shape[1]] &= ~pixels_HW[: len(within_HW), : within_HW.shape[1]]
    cells_HW = within_HW[:: evidence.step, :: evidence.step][: len(evidence.change), : evidence.change.shape[1]]
    return Sector(mask_HW=mask_HW, fan=fan, lit_outside=lit_outside(evidence.change, cells_HW))


def _clocks_beside(evidence: Evidence, fan: Fan) -> Mask:
    """Cells of digits that change and may have widened the fan: they lie beside the one that is found without them, or
    apart from the echo."""
    from scipy import ndimage

    near_HW = ndimage.binary_dilation(fan.mask(evidence.dimmest.shape), iterations=_RIM)
    clocks = [each for each in clocks_in(evidence.flickers) if (each & near_HW).any()]
    every_HW = _joined(clocks, near_HW.shape)
    # A clip of few grey levels flickers all over.
    if not clocks or every_HW[near_HW].mean() > _MOST_CLOCKS:
        return _joined([], near_HW.shape)
    without = _convincing_fan(evidence.without(every_HW))
    if without is None:
        return every_HW
    inside_HW = ndimage.binary_dilation(without.mask(near_HW.shape))
    apart_HW = apart_in(evidence, near_HW)

    def is_beside(clock_HW: Mask) -> bool:
        return bool(inside_HW[clock_HW].mean() < _BESIDE or apart_HW[clock_HW].mean() > _BESIDE)

    return _joined([each for each in clocks if is_beside(each)], near_HW.shape)


def _joined(clocks: Sequence[Mask], shape: tuple[int, ...]) -> Mask:
    """With what a codec blurs of them."""
    from scipy import ndimage

    joined_HW = np.logical_or.reduce([np.zeros(shape, bool), *clocks])
    return np.asarray(ndimage.binary_dilation(joined_HW, iterations=_RIM))


def _convincing_fan(evidence: Evidence) -> Fan | None:
    """The fan in cells, its apex up or, as paediatric views are often shown, down; None where none convinces."""
    fan = _upright_fan(evidence)
    if fan is None:
        turned = _upright_fan(evidence.within(slice(None, None, -1), slice(None)))
        fan = None if turned is None else turned.upside_down(len(evidence.dimmest))
    return fan


def _upright_fan(evidence: Evidence) -> Fan | None:
    fit = fit_fan(evidence)
    # A cine in which nothing moves is a still.
    is_still = evidence.is_still or not evidence.change.any()
    return fit.flanks.fan if _convinces(fit, is_still=is_still) else None


def _convinces(fit: Fit, *, is_still: bool) -> bool:
    """Whether a fit is the fan of one image, and no other image is beside it."""
    first, last, fan = fit.flanks.first, fit.flanks.last, fit.flanks.fan
    if is_still and min(first, last) < _STILL_EACH:
        return False
    if not is_still and (max(first, last) < _CINE_ONE or first + last < _CINE_BOTH):
        return False
    opening_rad = fan.last_rad - fan.first_rad
    if opening_rad > _WIDEST_RAD or fan.near * opening_rad > _MOST_FACE * (fan.far - fan.near):
        return False
    inside_HW = fan.mask(fit.echo_HW.shape)
    shows_HW = fit.echo_HW >= 0.5
    if inside_HW.mean() < _SMALLEST or shows_HW[inside_HW].mean() < _THINNEST:
        return False
    return not _other_image(shows_HW, inside_HW)


def _other_image(shows_HW: Mask, inside_HW: Mask) -> bool:
    """Whether there is so much echo outside of the fan that it must be another image."""
    from scipy import ndimage

    block = np.ones((max(3, min(shows_HW.shape) // _BLOCK),) * 2, bool)
    outside_HW = shows_HW & ~ndimage.binary_dilation(inside_HW, iterations=3)
    thick = ndimage.binary_opening(outside_HW, block).sum()
    return bool(thick > _OTHER_IMAGE * (shows_HW & inside_HW).sum())


def lit_outside(change: Echo, inside_HW: Mask) -> float:
    """The part of the changing cells that a sector, in cells too, leaves out."""
    shows_HW = change >= 0.5
    return float((shows_HW & ~inside_HW).sum() / max(1, shows_HW.sum()))


def _is_filled(dimmest: Echo) -> bool:
    """Whether echo fills a declared region to its corners."""
    height, width = (max(1, side // _CORNER) for side in dimmest.shape)
    corners = [part for end in (dimmest[:height], dimmest[-height:]) for part in (end[:, :width], end[:, -width:])]
    return bool(dimmest.mean() > _FILLED and min(corner.mean() for corner in corners) > _CORNER_FILLED)


def _fan_of_declared(change_HW: Echo) -> Fan | None:
    """The fan that a declared region is the bounding box of, apex in the middle of its top; None if echo is beside it.

    Scanners declare the box round their sector, so this is where the sector is even if most of it is dark.
    """
    height, width = change_HW.shape
    half_rad = float(np.arcsin(min(1.0, width / 2 / height)))
    fan = Fan(
        apex_row=-0.5,
        apex_column=(width - 1) / 2,
        first_rad=-half_rad,
        last_rad=half_rad,
        near=0.0,
        far=float(height),
        top=-0.5,
        left=-0.5,
        bottom=height - 0.5,
        right=width - 0.5,
    )
    shows_HW = change_HW >= 0.5
    within = shows_HW[fan.mask(change_HW.shape)].sum()
    return fan if within >= max(_IN_DECLARED * shows_HW.sum(), _SMALLEST * shows_HW.size) else None


def grey_frames(frames_TCHW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(T, H, W) luma, so that a clip has one sector whether it is read in grey or in colour."""
    if frames_TCHW.shape[1] == 1:
        return frames_TCHW[:, 0]
    return np.stack([luma(np.moveaxis(frame, 0, 2)) for frame in frames_TCHW])


def _declared_window(decoded: Decoded) -> tuple[slice, slice]:
    """The largest two-dimensional region that the file declares, else the whole image.

    A region bounds the fan, no more: scanners write text into its corners.
    """
    views = declared_views(decoded.regions)
    if not views:
        return slice(None), slice(None)
    return slice(views[0].top, views[0].bottom + 1), slice(views[0].left, views[0].right + 1)
