"""What is measured on held-out clips while a translator is trained.

B clips, T frames, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from echofm.clip import ClipBatch
from echofm.engine.parallel import joined_rows, own_share
from echofm.engine.task import Figure
from synth.translate.hidden import luma
from synth.translate.translator import Translation, Translator, seen_of

_CLIPS_AT_ONCE, _SHOWN = 4, 2


class Validation:
    """Figures and a picture of held-out pairs, the same each time."""

    def __init__(self, batch: ClipBatch) -> None:
        self._batch = batch

    def __call__(self, net: Translator) -> Mapping[str, Figure]:
        """Measure networks; every process calls it, and does its share.

        mae_*: absolute error of hidden pixels, grey from 0 to 1, the mean over clips: of the blurred fill-in, of the
        first network and of both.
        """
        share, rows, picture = own_share(len(self._batch)), [], None
        device = next(net.parameters()).device
        for first in range(share.start, share.stop, _CLIPS_AT_ONCE):
            part = self._batch[first : min(first + _CLIPS_AT_ONCE, share.stop)].to(device)
            translation = net.translate(part.video_BCTHW, part.sector_BHW, part.draw_B)
            rows.append(_errors(part, translation))
            picture = _sheet(part, translation) if picture is None else picture
        joined = joined_rows({name: torch.cat([each[name] for each in rows]) for name in rows[0]} if rows else {})
        figures: dict[str, Figure] = {name: float(values_B.nanmean()) for name, values_B in joined.items()}
        return figures if picture is None else {**figures, "translation": picture}


def _errors(batch: ClipBatch, translation: Translation) -> dict[str, torch.Tensor]:
    """(B,) of each clip; NaN where nothing is hidden."""
    fill = seen_of(batch.video_BCTHW, batch.sector_BHW, translation.mask_B1THW).grey_B1THW
    found = {"mae_fill": fill, "mae_structure": translation.structure_B1THW, "mae_texture": translation.texture_B1THW}
    mask, true = translation.mask_B1THW, batch.paired_BCTHW
    assert true is not None
    return {
        name: ((each - true).abs() * mask).flatten(1).sum(1) / mask.flatten(1).sum(1) for name, each in found.items()
    }


def _sheet(batch: ClipBatch, translation: Translation) -> npt.NDArray[np.uint8]:
    """Of each clip a row of frames as luma of the colour, of structure, of texture and true."""
    rows = [luma(batch.video_BCTHW), translation.structure_B1THW, translation.texture_B1THW, batch.paired_BCTHW]
    strips_BSTHW = torch.stack([each[:, 0] for each in rows if each is not None], 1)[:_SHOWN].cpu()
    picture_HW = strips_BSTHW.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(0, 2)
    return (picture_HW[..., None].expand(-1, -1, 3) * 255).round().byte().numpy()
