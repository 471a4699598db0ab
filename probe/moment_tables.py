"""Tables beside an encoder's own: the pixels of its moments, and a phase token for every single frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.contract import InputContract
from echofm.embed.inputs import conformed
from echofm.embed.phase import PhaseTokens
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError
from probe.moments import Reading, encode_moments, frame_features

if TYPE_CHECKING:
    from echofm.hub import Encoder

_SIDE = 32


def pixel_table(table: EmbeddingTable, clips: Iterable[Clip]) -> EmbeddingTable:
    """The moments of a table as EchoFM's pixel prior sees them: grey, averaged over a token's frames, 32 x 32, without
    their mean.

    clips: those of the table, in any order (a `ShardSet` gives them); others are passed over. They are brought under
    the table's contract as `echofm embed` does. Compared with their clip's mean removed, these are the pixel prior of
    `echofm.loss.periodic`. Raises EchofmError where the table has no phase tokens, contract or one of its clips.
    """
    if table.phase is None or table.contract is None:
        raise EchofmError("the table has no phase tokens or no contract; embed the clips with phase on")
    contract = InputContract.model_validate(dict(table.contract))
    place = {str(name): number for number, name in enumerate(table.clip_id)}
    found: dict[int, npt.NDArray[np.float32]] = {}
    for clip in clips:
        number = place.get(clip.clip_id)
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


def frame_table(
    encoder: Encoder,
    table: EmbeddingTable,
    clips: Iterable[Clip],
    *,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    batch: int = 16,
    device: torch.device | str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> EmbeddingTable:
    """The table's clips with a phase token for every frame of the clip's own rate, read from windows at every frame.

    Finer than `echofm embed`, whose tokens are a tubelet's frames apart. Raises EchofmError as `encode_moments`, and
    where a clip is missing.
    """
    place = {str(name): number for number, name in enumerate(table.clip_id)}
    found: dict[int, tuple[npt.NDArray[np.float32], Clip]] = {}
    for clip in clips:
        number = place.get(clip.clip_id)
        if number is not None:
            moments = encode_moments(encoder, clip, batch=batch, sources=(reading.source,), device=device)
            found[number] = frame_features(moments, reading), clip
            advance()
    if len(found) < len(table):
        raise EchofmError(
            f"{len(table) - len(found)} clips of the table were not given; give the data that it was made of"
        )
    ordered = [found[number] for number in range(len(table))]
    features = [feature for feature, _ in ordered]
    unknown = [np.full(len(feature), np.nan) for feature in features]
    phase = PhaseTokens.from_arrays(
        features,
        time_s=[nan if clip.frame_time_s is None else clip.frame_time_s for nan, (_, clip) in zip(unknown, ordered)],
        cycle=[nan if clip.phase_T is None else clip.phase_T for nan, (_, clip) in zip(unknown, ordered)],
    )
    frame_P = np.concatenate([np.arange(len(feature), dtype=np.float32) for feature in features])
    return replace(table, phase=replace(phase, frame_P=frame_P))


def _thumbnails(clip: Clip, frame_P: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(T, 1024) of the tokens whose frames have these mean indices; a token sees as many frames as the closest two are
    apart."""
    span = max(1, round(float(np.diff(frame_P).min()))) if len(frame_P) > 1 else 1
    grey_THW = torch.from_numpy(clip.frames_TCHW).float().mean(1) / 255
    small_TP = F.adaptive_avg_pool2d(grey_THW[:, None], _SIDE).flatten(1)
    first_T = np.ceil(frame_P - (span - 1) / 2 - 0.25).astype(np.int64)
    index = (first_T[:, None] + np.arange(span)).clip(0, len(grey_THW) - 1)
    pixels = small_TP[torch.from_numpy(index)].mean(1)
    return (pixels - pixels.mean(1, keepdim=True)).numpy()
