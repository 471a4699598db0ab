"""What a file is: the kinds of clip, and the kinds of intact file that hold no clip of a heart and are only counted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from echofm.readers.refused import Refused

# "spectral" and "m_mode": the two-dimensional part of a screen that shows such a trace beside it.
KINDS = ("bmode", "colour_doppler", "spectral", "m_mode", "still", "colour_still", "unknown")
# What is counted and set aside, and what it is in words.
NO_CLIP = {
    "spectral": "spectral Doppler without an image of the heart beside it",
    "m_mode": "M-mode without an image of the heart beside it",
    "graphics": "a screen of graphics or curves without an image",
    "linear_array": "an image of a linear array, which no heart is seen with",
    "volume": "a three-dimensional volume, whose frames are slices and not time points",
    "dicomdir": "a DICOMDIR, the list of other files",
    "structured_report": "a structured report",
    "document": "a document within DICOM",
    "presentation_state": "a presentation state of other images",
    "waveform": "a curve (ECG or the like) within DICOM",
    "raw_data": "raw data, a segmentation or a registration within DICOM",
    "no_image": "a DICOM object without an image",
    "intravascular": "an image from within a vessel",
    "ct": "computed tomography",
    "mr": "magnetic resonance imaging",
    "xray": "an X-ray image",
    "nuclear": "a nuclear medicine image",
    "radiotherapy": "an object of radiotherapy",
    "photograph": "a photograph or microscope image",
    "several_images": "several images on one screen",
    "no_sector": "without an ultrasound sector that can be found",
}
# Colour flow is saturated; tinted grey maps and chroma noise of lossy codecs stay below this spread of R, G and B.
_COLOURED = 60
_COLOURED_FRACTION = 0.005


def no_clip(kind: str) -> Refused:
    """The refusal of an intact file of another kind."""
    return Refused(f"it is {NO_CLIP[kind]}", kind=kind)


def kind_by_pixels(
    frames_TCHW: npt.NDArray[np.uint8], chroma_HW: npt.NDArray[np.uint8] | None, sector_HW: npt.NDArray[np.bool_]
) -> str:
    """ "bmode", "colour_doppler", "still" or "colour_still", by the colour inside the sector (`Decoded.chroma_HW`).

    Labels, markers and traces are thin: what of the colour survives an opening is flow.
    """
    is_still = len(frames_TCHW) == 1
    if chroma_HW is not None and _is_flow(chroma_HW, sector_HW):
        return "colour_still" if is_still else "colour_doppler"
    return "still" if is_still else "bmode"


def _is_flow(chroma_HW: npt.NDArray[np.uint8], sector_HW: npt.NDArray[np.bool_]) -> bool:
    from scipy import ndimage

    coloured_HW = (chroma_HW > _COLOURED) & sector_HW
    enough = _COLOURED_FRACTION * sector_HW.sum()
    if coloured_HW.sum() <= enough:
        return False
    side = 2 * max(1, min(chroma_HW.shape) // 160) + 1
    return bool(ndimage.binary_opening(coloured_HW, np.ones((side, side))).sum() > enough)
