"""Label maps at end-diastole and end-systole, by clip. Shapes: H rows, W columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import NOT_ANNOTATED
from echofm.errors import EchofmError
from echofm.shards.carry import emptying_T
from echofm.shards.read import ShardSet

Map = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPair:
    """Classes of echofm.clip at end-diastole and end-systole of one heart in one view.

    source: what says where it comes from, JSON-like. quality: the clip's image quality, a word; None: unknown.
    spacing_mm: (row, column) of a pixel; None where unknown.
    """

    ed_HW: Map
    es_HW: Map
    view: str | None
    source: dict[str, object]
    quality: str | None = None
    spacing_mm: tuple[float, float] | None = None


def pairs_of(shards: ShardSet, spec: str, *, size: int) -> list[MapPair]:
    """The pair of every clip of a split that has one, by patient, at `size` pixels a side.

    spec: how the split was named, for the error. Raises EchofmError where no clip has two frames of masks that differ.
    """
    found = []
    order = sorted(range(len(shards)), key=lambda index: shards.records[index].meta.patient_id)
    for index in order:
        mask_THW = shards.array(index, "mask_THW")
        if mask_THW is None or np.isnan(emptied_T := emptying_T(mask_THW)).all():
            continue
        meta = shards.records[index].meta
        quality, side = meta.labels.get("image_quality"), mask_THW.shape[1]
        spacing = meta.pixel_spacing_mm
        found.append(
            MapPair(
                ed_HW=resized(mask_THW[np.nanargmin(emptied_T)], size),
                es_HW=resized(mask_THW[np.nanargmax(emptied_T)], size),
                view=meta.view,
                source={"map_clip": meta.clip_id},
                quality=quality if isinstance(quality, str) else None,
                spacing_mm=None if spacing is None else (spacing[0] * side / size, spacing[1] * side / size),
            )
        )
    if not found:
        raise EchofmError(f"{spec}: no clip has masks of two frames that differ; write shards of a set that has them")
    return found


def by_view(pairs: Sequence[MapPair]) -> dict[str, list[MapPair]]:
    """Those whose view is known, "A4C" first."""
    views = sorted({pair.view for pair in pairs if pair.view is not None}, key=lambda view: (view != "A4C", view))
    return {view: [pair for pair in pairs if pair.view == view] for view in views}


def resized(map_HW: Map, size: int) -> Map:
    """By the nearest pixel."""
    if map_HW.shape == (size, size):
        return map_HW
    whole = torch.from_numpy(np.ascontiguousarray(map_HW))[None, None].float()
    return F.interpolate(whole, (size, size), mode="nearest-exact")[0, 0].byte().numpy()


def annotated(map_HW: Map) -> Map:
    """With what nobody annotated as background, as files of public sets have it."""
    return np.where(map_HW == NOT_ANNOTATED, 0, map_HW).astype(np.uint8)
