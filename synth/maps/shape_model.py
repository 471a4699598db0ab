"""New anatomy: a shape model of label maps at end-diastole and end-systole, by principal components.

Outlines are kept as signed distances to them (Leventon et al., CVPR 2000), so that no points need to correspond: of the
cavity, of cavity with myocardium, of the atrium. Shapes: N hearts, P numbers of one, K components; H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, shift

from echofm.clip import BACKGROUND, LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM
from echofm.draws import Stream, normal
from echofm.errors import EchofmError
from synth.maps.pairs import Map, MapPair

_SIDE, _FARTHEST = 64, 16.0
_COMPONENTS, _LEAST, _MOST_DEVIATIONS = 12, 4, 2.0
# A middle counts as much as if all distances moved with it.
_WEIGHT = 45.0
_REGIONS = ((LEFT_VENTRICLE,), (LEFT_VENTRICLE, MYOCARDIUM), (LEFT_ATRIUM,))
# What each region's middle is taken of: cavity and wall stay together.
_MIDDLES = (_REGIONS[1], *_REGIONS[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeModel:
    """Hearts of one view: mean + sum of deviation x component, x drawn from a normal distribution cut at 2."""

    view: str
    mean_P: npt.NDArray[np.float32]
    component_KP: npt.NDArray[np.float32]
    deviation_K: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float] | None

    @classmethod
    def fit(cls, view: str, pairs: Sequence[MapPair]) -> ShapeModel:
        """Of one view's pairs. Raises EchofmError where they are too few."""
        if len(pairs) < _LEAST:
            raise EchofmError(f"a shape model takes {_LEAST} or more clips with maps; of {view} there are {len(pairs)}")
        shape_NP = np.stack([_distances(pair) for pair in pairs])
        mean_P = shape_NP.mean(0)
        _, scale_K, component_KP = np.linalg.svd(shape_NP - mean_P, full_matrices=False)
        kept = min(_COMPONENTS, len(pairs) - 1)
        spacings = [pair.spacing_mm for pair in pairs if pair.spacing_mm is not None]
        return cls(
            view=view,
            mean_P=mean_P.astype(np.float32),
            component_KP=component_KP[:kept].astype(np.float32),
            deviation_K=(scale_K[:kept] / np.sqrt(len(pairs) - 1)).astype(np.float32),
            spacing_mm=None if not spacings else tuple(np.mean(spacings, 0).round(4).tolist()),
        )

    def drawn(self, draw: int, *, size: int) -> MapPair:
        """A heart that nobody has, by its seed, at `size` pixels a side."""
        drawn_K = normal(torch.tensor([draw]), len(self.deviation_K), stream=Stream.SHAPE)[0]
        weight_K = drawn_K.clamp(-_MOST_DEVIATIONS, _MOST_DEVIATIONS).numpy()
        shape_P = self.mean_P + (weight_K * self.deviation_K) @ self.component_KP
        middles = 2 * 2 * len(_REGIONS)
        distance_2RHW = shape_P[:-middles].reshape(2, len(_REGIONS), _SIDE, _SIDE)
        middle_2R2 = shape_P[-middles:].reshape(2, len(_REGIONS), 2) / _WEIGHT
        ed_HW, es_HW = (_map(*each, size) for each in zip(distance_2RHW, middle_2R2))
        source: dict[str, object] = {"shape_model": [round(float(each), 4) for each in weight_K]}
        return MapPair(ed_HW=ed_HW, es_HW=es_HW, view=self.view, source=source, spacing_mm=self.spacing_mm)


def _distances(pair: MapPair) -> npt.NDArray[np.float64]:
    """Distances of every region about its middle, then the middles: means of outlines far apart are no outlines."""
    distances, middles = [], []
    for map_HW in (pair.ed_HW, pair.es_HW):
        for region, whole in zip(_REGIONS, _MIDDLES):
            distance_HW = _signed(np.isin(map_HW, region))
            middle_2 = _middle(np.isin(map_HW, whole) if np.isin(map_HW, region).any() else map_HW > BACKGROUND)
            distances.append(shift(distance_HW, _SIDE / 2 - middle_2, order=1, mode="nearest").ravel())
            middles.append(_WEIGHT * middle_2)
    return np.concatenate([*distances, *middles])


def _middle(inside_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Mean row and column, in pixels of a 64-pixel image."""
    where_2N = np.array(np.nonzero(inside_HW)) + 0.5
    return where_2N.mean(1) * (_SIDE / len(inside_HW)) if where_2N.size else np.full(2, _SIDE / 2)


def _signed(inside_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Pixels of a 64-pixel image to the outline, negative inside; cut where far, so that near is what counts."""
    if not inside_HW.any():
        return np.full((_SIDE, _SIDE), _FARTHEST)
    # Half a pixel less on either side: the outline runs between two pixels.
    distance_HW = np.where(
        inside_HW, 0.5 - distance_transform_edt(inside_HW), distance_transform_edt(~inside_HW) - 0.5
    ) * (_SIDE / len(inside_HW))
    return _at(distance_HW, _SIDE).clip(-_FARTHEST, _FARTHEST)


def _map(distance_RHW: npt.NDArray[np.float32], middle_R2: npt.NDArray[np.float32], size: int) -> Map:
    moved = [
        shift(distance_HW, middle_2 - _SIDE / 2, order=1, mode="nearest")
        for distance_HW, middle_2 in zip(distance_RHW, middle_R2)
    ]
    cavity_HW, heart_HW, atrium_HW = (_at(each, size) < 0 for each in moved)
    map_HW = np.full((size, size), BACKGROUND, np.uint8)
    map_HW[atrium_HW] = LEFT_ATRIUM
    map_HW[heart_HW] = MYOCARDIUM
    map_HW[cavity_HW] = LEFT_VENTRICLE
    return map_HW


def _at(values_HW: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
    whole = torch.from_numpy(np.ascontiguousarray(values_HW))[None, None]
    return F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
