"""Translator: colour clips to grey ones, by a network of structure and one of texture; hidden pixels alone are changed.

Shapes: B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from echofm.draws import Stream, normal
from echofm.saveable import Saveable
from echofm.schema import FrozenModel
from synth.translate.config import TranslatorConfig
from synth.translate.hidden import colour_mask, filled, luma, remembered
from synth.translate.network import SpaceTimeUnet

# Frames before and after of which what was seen at a pixel is shown to the first network.
_REMEMBERED = 6
_FRAMES_AT_ONCE = 64
_ABOUT = """# A translator of colour Doppler into greyscale

Predicts what the colour hides, and keeps every other pixel.

```python
import echofm

translator = echofm.load_model("THIS FOLDER").eval()
translation = translator.translate(video_BCTHW, sector_BHW, draw_B)  # RGB in [0, 1]
translation.texture_B1THW, translation.mask_B1THW
```"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A clip as the networks see it. grey_B1THW: in [0, 1], luma, under the mask a blurred fill-in.

    mask_B1THW: bool, what is to be predicted. input_BCTHW: of the first network.
    """

    grey_B1THW: torch.Tensor
    mask_B1THW: torch.Tensor
    input_BCTHW: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Translation:
    """Grey clips in [0, 1]: of the first network, and of the second on it; alike outside the mask."""

    mask_B1THW: torch.Tensor
    structure_B1THW: torch.Tensor
    texture_B1THW: torch.Tensor


class Translator(Saveable):
    """The two networks. structure sees colour, mask and fill-ins; texture sees the first's result, mask and noise."""

    kind: ClassVar[str] = "translator"
    about: ClassVar[str] = _ABOUT
    schema: ClassVar[type[FrozenModel]] = TranslatorConfig
    config: TranslatorConfig

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        shape = {"patch": config.patch, "groups": config.norm_groups}
        self.structure = SpaceTimeUnet(channels=6, widths=config.structure_widths, **shape)
        self.texture = SpaceTimeUnet(channels=3, widths=config.texture_widths, **shape)

    @torch.no_grad()
    def translate(self, video_BCTHW: torch.Tensor, sector_BHW: torch.Tensor, draw_B: torch.Tensor) -> Translation:
        """Twins of RGB clips in [0, 1] of any length, part by part: the same as at once. draw_B: seeds of the speckle.

        Raises EchofmError on clips of another size.
        """
        frames, margin = video_BCTHW.shape[2], self.structure.reach + self.texture.reach + _REMEMBERED
        self.config.contract.model_copy(update={"frames": frames}).check(video_BCTHW)
        noise_B1THW = noise_of(draw_B, frames, self.config.size)
        parts = []
        for first in range(0, frames, _FRAMES_AT_ONCE):
            begin, stop = max(0, first - margin), min(frames, first + _FRAMES_AT_ONCE + margin)
            seen = seen_of(video_BCTHW[:, :, begin:stop], sector_BHW)
            structure = self.composed(seen, self.structure(seen.input_BCTHW)).clamp(0, 1)
            texture = self.textured(seen, structure, noise_B1THW[:, :, begin:stop]).clamp(0, 1)
            keep = slice(first - begin, min(first + _FRAMES_AT_ONCE, frames) - begin)
            parts.append([each[:, :, keep] for each in (seen.mask_B1THW, structure, texture)])
        mask, structure, texture = (torch.cat(each, 2) for each in zip(*parts))
        return Translation(mask_B1THW=mask, structure_B1THW=structure, texture_B1THW=texture)

    @staticmethod
    def composed(seen: Seen, residual_B1THW: torch.Tensor) -> torch.Tensor:
        """The fill-in and what a network adds to it under the mask."""
        return seen.grey_B1THW + residual_B1THW * seen.mask_B1THW

    def textured(self, seen: Seen, structure_B1THW: torch.Tensor, noise_B1THW: torch.Tensor) -> torch.Tensor:
        """Structure with speckle under the mask."""
        residual = self.texture(texture_input(seen, structure_B1THW, noise_B1THW))
        return structure_B1THW + residual * seen.mask_B1THW


def seen_of(video_BCTHW: torch.Tensor, sector_BHW: torch.Tensor, mask_B1THW: torch.Tensor | None = None) -> Seen:
    """RGB clips as the networks see them. mask_B1THW: what is hidden; by default what colour covers."""
    mask = colour_mask(video_BCTHW, sector_BHW) if mask_B1THW is None else mask_B1THW
    grey = luma(video_BCTHW)
    known = ~mask & sector_BHW[:, None, None]
    hidden = torch.where(mask, filled(grey, known), grey)
    then = remembered(hidden, known | ~sector_BHW[:, None, None], reach=_REMEMBERED)
    return Seen(
        grey_B1THW=hidden,
        mask_B1THW=mask,
        input_BCTHW=torch.cat([hidden, then, mask.to(grey.dtype), video_BCTHW * mask], 1),
    )


def texture_input(seen: Seen, structure_B1THW: torch.Tensor, noise_B1THW: torch.Tensor) -> torch.Tensor:
    """(B, 3, T, H, W): the first network's result, the mask, and noise under it."""
    mask = seen.mask_B1THW.to(structure_B1THW.dtype)
    return torch.cat([structure_B1THW, mask, noise_B1THW * mask], 1)


def noise_of(draw_B: torch.Tensor, frames: int, size: int) -> torch.Tensor:
    """(B, 1, T, size, size) of variance 1: the speckle's own draw."""
    return normal(draw_B, 1, frames, size, size, stream=Stream.TEXTURE)
