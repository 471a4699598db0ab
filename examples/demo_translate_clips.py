"""Held-out clips of the demo of translation: truth, translation and fill-ins. T frames, H rows, W columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import Clip
from echofm.conform import grey_bt601
from echofm.shards.read import ShardSet
from synth.translate.clip import translated
from synth.translate.hidden import filled
from synth.translate.write import open_translator

Frames = npt.NDArray[np.uint8]
COLOUR, FILL, INPAINT, STRUCTURE, TEXTURE = (
    "colour as it is",
    "blurred fill-in",
    "OpenCV's inpainting",
    "structure",
    "structure and texture",
)
_RADIUS_PX = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A clip whose grey is known. found: by method, uint8 (T, H, W), alike outside the mask; true, clean: the same."""

    clip: Clip
    mask_THW: npt.NDArray[np.bool_]
    found: dict[str, Frames]
    true_THW: Frames
    clean_THW: Frames


def pairs_of(out: Path) -> Iterator[Pair]:
    """The test split's clips, each with what the demo's translator and simple methods make of it."""
    net = open_translator(str(out / "translator"), device="cpu")
    for clip in ShardSet.open(out / "shards").split("test"):
        result = translated(net, clip)
        mask_THW, own_THW = result.mask_THW, grey_bt601(clip.frames_TCHW)[:, 0]
        assert clip.paired_TCHW is not None and clip.clean_TCHW is not None
        if not result.is_translated:
            continue
        yield Pair(
            clip=clip,
            mask_THW=mask_THW,
            found={
                COLOUR: own_THW,
                FILL: _blurred(own_THW, mask_THW, clip.sector_HW),
                INPAINT: np.stack([_inpainted(*each) for each in zip(own_THW, mask_THW)]),
                STRUCTURE: result.structure_THW,
                TEXTURE: result.clip.frames_TCHW[:, 0],
            },
            true_THW=np.where(mask_THW, clip.paired_TCHW[:, 0], own_THW),
            clean_THW=np.where(mask_THW, clip.clean_TCHW[:, 0], own_THW),
        )


def _blurred(own_THW: Frames, mask_THW: npt.NDArray[np.bool_], sector_HW: npt.NDArray[np.bool_]) -> Frames:
    grey, known = (torch.from_numpy(each)[None, None] for each in (own_THW, ~mask_THW & sector_HW))
    return np.where(mask_THW, filled(grey.float(), known)[0, 0].round().byte().numpy(), own_THW)


def _inpainted(own_HW: Frames, mask_HW: npt.NDArray[np.bool_]) -> Frames:
    return np.asarray(cv2.inpaint(own_HW, mask_HW.astype(np.uint8), _RADIUS_PX, cv2.INPAINT_TELEA), np.uint8)
