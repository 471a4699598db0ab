"""Outlines of structures on frames: the true one and the predicted one.

H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from PIL import Image

from echofm.clip import NOT_ANNOTATED
from echofm.report.blocks import Block, FilmStrip
from probe.result import Overlay

_TRUE, _PREDICTED = (92, 196, 214), (240, 137, 111)
# Outlines are drawn on an enlarged frame, so that they hide no pixel of it.
_SIDE = 224


def overlays(examples: Sequence[Overlay]) -> list[Block]:
    """A film strip: the frames, with true and with predicted outlines; nothing for no examples."""
    if not examples:
        return []
    return [
        FilmStrip(
            rows={
                "frame": np.stack([_large(each.frame_HW) for each in examples]),
                "true": np.stack([outlined(each.frame_HW, each.true_HW, colour=_TRUE) for each in examples]),
                "predicted": np.stack(
                    [outlined(each.frame_HW, each.predicted_HW, colour=_PREDICTED) for each in examples]
                ),
            },
            columns=[each.name for each in examples],
            alt="test frames with the true and the predicted outlines of the structures",
            caption="Test frames, with the true outlines below and the predicted ones below these.",
        )
    ]


def outlined(
    frame_HW: npt.NDArray[np.uint8], map_HW: npt.NDArray[np.uint8], *, colour: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """The frame enlarged to 224 pixels, (224, 224, 3), with the edge of every structure in a colour."""
    labels = np.asarray(Image.fromarray(map_HW).resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
    inside = np.where(labels == NOT_ANNOTATED, 0, labels)
    edge = (scipy.ndimage.maximum_filter(inside, 3) != inside) | (scipy.ndimage.minimum_filter(inside, 3) != inside)
    picture = np.array(_large(frame_HW))
    picture[edge] = colour
    return picture


def _large(frame_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = Image.fromarray(np.ascontiguousarray(frame_HW)).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey.convert("RGB"))
