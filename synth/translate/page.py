"""The page of a set of twins: what was read, what was predicted, and how sure of it the networks are.

T frames, K frames shown, H rows, W columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from echofm.clip import Clip
from echofm.conform import conform
from echofm.report.blocks import FilmStrip, Prose, Table
from echofm.report.page import Page
from synth.translate.clip import SAMPLES, TranslatedClip

_FRAMES, _SIZE = 6, 192


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Some frames of a clip and of its twin, by row: uint8 (K, H, W) or (K, H, W, 3)."""

    clip_id: str
    rows: Mapping[str, npt.NDArray[np.uint8]]

    @classmethod
    def of(cls, clip: Clip, translation: TranslatedClip) -> Shown:
        """The frames are those with most colour in each part of the clip."""
        parts = np.array_split(np.arange(len(clip.frames_TCHW)), min(_FRAMES, len(clip.frames_TCHW)))
        chosen = [int(part[translation.mask_THW[part].sum((1, 2)).argmax()]) for part in parts]
        small = conform(clip, size=_SIZE).frames_TCHW[chosen].transpose(0, 2, 3, 1)

        def grey(frames_THW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
            plain = clip.replace(frames_TCHW=frames_THW[:, None], paired_TCHW=None, clean_TCHW=None)
            return conform(plain, size=_SIZE).frames_TCHW[chosen, 0]

        rows = {
            "as read": small if small.shape[-1] == 3 else small.repeat(3, -1),
            "structure": grey(translation.structure_THW),
            "with texture": grey(translation.clip.frames_TCHW[:, 0]),
        }
        if translation.spread_THW is not None:
            wide = [
                _enlarged(each) for each in (4 * 255 * translation.spread_THW[chosen]).clip(0, 255).astype(np.uint8)
            ]
            rows["spread, 4 x"] = np.stack(wide)
        if clip.paired_TCHW is not None:
            rows["truth"] = grey(clip.paired_TCHW[:, 0])
        return cls(clip_id=clip.clip_id, rows=rows)


def _enlarged(frame_HW: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(frame_HW).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR))


def page_of(shown: Sequence[Shown], lines: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Page:
    """lines: of provenance.jsonl."""
    became = Counter(line["became"] for line in lines)
    page = Page(
        "Greyscale twins of colour Doppler clips",
        f"Translated: {became['translated']}; without colour, copied: {became['copied']}; refused: "
        f"{became['refused']}. What lay under the colour is a prediction, and no finding may rest on it.",
    )
    if any(line.get("simulated") for line in lines):
        page.warn("Among these are phantoms: no figure or picture of them stands for one of patients.")
    for each in shown:
        strip = FilmStrip(
            each.rows,
            alt=f"Frames of clip {each.clip_id} in rows",
            caption=f"Spread: the standard deviation of {SAMPLES} draws of the texture; only where colour lay.",
        )
        page.add(f"Clip {each.clip_id}", strip)
    if not shown:
        page.add("Clips", Prose("No clip has colour."))
    reasons = Counter(line["reason"] for line in lines if line["became"] == "refused")
    if reasons:
        page.add("Refused", Table(columns=["reason", "clips"], rows=[list(each) for each in reasons.most_common()]))
    return page.add(
        "How they were made", Table(columns=["setting", "value"], rows=[[*each] for each in settings.items()])
    )
