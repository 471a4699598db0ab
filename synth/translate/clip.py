"""The grey twin of one clip as read, at its own size: only what the colour hides is predicted.

Shapes: T frames, C channels, H rows, W columns as read; S rows and columns of the networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from skimage.morphology import convex_hull_image

from echofm.clip import Clip
from echofm.conform import conform, grey_bt601, placed_back
from echofm.readers.refused import Refused
from echofm.shards.windows import draws
from synth.translate.hidden import colour_mask
from synth.translate.translator import Translator

_COLOUR = {"colour_doppler": "bmode", "colour_still": "still"}
_NO_GREY = {"m_mode": "it is M-mode", "spectral": "it is spectral Doppler"}
# Where colour's hull leaves less of the sector than this, there is nothing to predict from.
_MOST_COVERED = 0.95
_FRAMES_AT_ONCE = 32
SAMPLES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslatedClip:
    """clip: in grey. mask_THW: what was predicted; none of a clip without colour, which is the clip's own grey.

    structure_THW: uint8, of the first network alone. spread_THW: float32, the standard deviation of several draws of
    the speckle, grey from 0 to 1, at the networks' size; None where it was not asked for.
    """

    clip: Clip
    mask_THW: npt.NDArray[np.bool_]
    structure_THW: npt.NDArray[np.uint8]
    spread_THW: npt.NDArray[np.float32] | None = None

    @property
    def is_translated(self) -> bool:
        """Whether anything was predicted."""
        return bool(self.mask_THW.any())


def translated(net: Translator, clip: Clip, *, seed: int = 0, with_spread: bool = False) -> TranslatedClip:
    """Translate a clip read in RGB. The speckle's draw follows from (seed, clip id).

    Refused: M-mode, spectral Doppler, colour that covers the whole sector, and a clip that was read in grey.
    """
    if clip.kind in _NO_GREY:
        raise Refused(f"{_NO_GREY[clip.kind]}, which has no greyscale twin", kind=clip.kind)
    grey_THW = grey_bt601(clip.frames_TCHW)[:, 0]
    if clip.kind not in _COLOUR:
        return TranslatedClip(
            clip=_in_grey(clip, grey_THW), mask_THW=np.zeros(grey_THW.shape, bool), structure_THW=grey_THW
        )
    if clip.frames_TCHW.shape[1] == 1:
        raise Refused("it is colour Doppler kept in grey; write the shards with --channels 3", kind=clip.kind)
    mask_THW = _mask(clip)
    covered = convex_hull_image(mask_THW.any(0)) if mask_THW.any() else mask_THW[0]
    if (covered & clip.sector_HW).sum() > _MOST_COVERED * clip.sector_HW.sum():
        raise Refused("its colour box covers the whole sector, so that nothing is left to predict from", kind=clip.kind)
    size, device = net.config.size, next(net.parameters()).device
    small = conform(clip, size=size)
    video_BCTHW = torch.from_numpy(small.frames_TCHW).to(device).transpose(0, 1)[None].float() / 255
    sector_BHW = torch.from_numpy(small.sector_HW).to(device)[None]

    def drawn(number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        draw_B = torch.tensor([draws(seed, number, clip.clip_id)[1]], device=device)
        translation = net.translate(video_BCTHW, sector_BHW, draw_B)
        return translation.structure_B1THW[0, 0].cpu().numpy(), translation.texture_B1THW[0, 0].cpu().numpy()

    structure, texture = (_composed(clip, grey_THW, mask_THW, each) for each in drawn(0))
    spread = np.std([drawn(number)[1] for number in range(SAMPLES)], axis=0) if with_spread else None
    return TranslatedClip(clip=_in_grey(clip, texture), mask_THW=mask_THW, structure_THW=structure, spread_THW=spread)


def _mask(clip: Clip) -> npt.NDArray[np.bool_]:
    sector_BHW = torch.from_numpy(clip.sector_HW)[None]
    parts = []
    for first in range(0, len(clip.frames_TCHW), _FRAMES_AT_ONCE):
        part_TCHW = torch.from_numpy(clip.frames_TCHW[first : first + _FRAMES_AT_ONCE])
        parts.append(colour_mask(part_TCHW.transpose(0, 1)[None].float() / 255, sector_BHW)[0, 0].numpy())
    return np.concatenate(parts)


def _composed(
    clip: Clip, grey_THW: npt.NDArray[np.uint8], mask_THW: npt.NDArray[np.bool_], found_TSS: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """The clip's own grey, and under the mask what was predicted, back at its size."""
    composed = grey_THW.copy()
    for frame_HW, mask_HW, found_SS in zip(composed, mask_THW, found_TSS):
        if mask_HW.any():
            frame_HW[mask_HW] = (255 * placed_back(found_SS, clip.sector_HW)[mask_HW]).round()
    return composed


def _in_grey(clip: Clip, grey_THW: npt.NDArray[np.uint8]) -> Clip:
    kind = _COLOUR.get(clip.kind, clip.kind)
    return clip.replace(frames_TCHW=grey_THW[:, None], kind=kind, paired_TCHW=None, velocity_m_per_s_THW=None)
