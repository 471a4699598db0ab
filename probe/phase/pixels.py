"""A table beside an encoder's own: the pixels that its phase tokens saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import conformed
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError

_SIDE = 32


def pixel_table(table: EmbeddingTable, clips: Iterable[Clip]) -> EmbeddingTable:
    """A table's phase tokens as EchoFM's pixel prior sees them: grey, averaged over a token's frames, 32 x 32, without
    their mean.

    clips: those of the table, in any order (a `ShardSet` gives them); others are passed over. They are brought under
    the table's contract as `echofm embed` does. Compared with their clip's mean removed, these are the pixel prior of
    `echofm.loss.periodic`. Raises EchofmError where the table has no phase tokens, contract or one of its clips.
    """
    if table.phase is None or table.contract is None:
        raise EchofmError("the table has no phase tokens or no contract; embed the clips with phase on")
    contract = InputContract.model_validate(dict(table.contract))
    index = {str(name): number for number, name in enumerate(table.clip_id)}
    found: dict[int, npt.NDArray[np.float32]] = {}
    for clip in clips:
        number = index.get(clip.clip_id)
        if number is not None:
            found[number] = _thumbnails(conformed(clip, contract), table.phase.of(number).frame_P)
    if len(found) < len(table):
        raise EchofmError(
            f"{len(table) - len(found)} clips of the table were not given; give the data that it was made of"
        )
    features = [found[number] for number in range(len(table))]
    return replace(
        table,
        video_ND=np.stack([each.mean(0) for each in features]),
        phase=replace(table.phase, feature_PD=np.concatenate(features)),
        encoder_digest="pixels 32x32",
    )


def _thumbnails(clip: Clip, frame_P: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(T, 1024) of the tokens whose frames have these mean indices; a token sees as many frames as the closest two are
    apart."""
    span = max(1, round(float(np.diff(frame_P).min()))) if len(frame_P) > 1 else 1
    grey_THW = torch.from_numpy(clip.frames_TCHW).float().mean(1) / 255
    small_TP = F.adaptive_avg_pool2d(grey_THW[:, None], _SIDE).flatten(1)
    first_T = np.ceil(frame_P - (span - 1) / 2 - 0.25).astype(np.int64)
    frames = (first_T[:, None] + np.arange(span)).clip(0, len(grey_THW) - 1)
    pixels = small_TP[torch.from_numpy(frames)].mean(1)
    return (pixels - pixels.mean(1, keepdim=True)).numpy()
