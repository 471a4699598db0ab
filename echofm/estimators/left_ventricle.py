"""The left ventricle's area in every frame, from masks or read by a small head from an encoder's tokens.

Frames with a traced outline, and tokens of any frame, are what such a reader learns from.

F frames, R rows and C columns of tokens, D features, H rows, W columns of pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from echofm.clip import LEFT_ATRIUM, LEFT_VENTRICLE, MYOCARDIUM, NOT_ANNOTATED, Clip
from echofm.conform import conform
from echofm.errors import EchofmError
from echofm.estimators.head import FittedHead, HeadKind, fit_head
from echofm.shards.windows import Window, Windowing, cut_windows

if TYPE_CHECKING:
    from echofm.hub import Encoder
    from echofm.shards.read import ShardSet

Floats = npt.NDArray[np.float64]
STRUCTURES = {LEFT_VENTRICLE: "left_ventricle", MYOCARDIUM: "myocardium", LEFT_ATRIUM: "left_atrium"}


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedFrames:
    """Annotated frames of one split.

    tokens_FRCD: float16. pixels_FHW: uint8 grey, under the encoder's contract. mask_FHW: uint8 classes.
    rows: clip_id, patient_id, view, frame (of the clip), event ("ed", "es" or ""), row_mm, column_mm (size of a pixel,
        NaN where unknown).
    """

    tokens_FRCD: npt.NDArray[np.float16]
    pixels_FHW: npt.NDArray[np.uint8]
    mask_FHW: npt.NDArray[np.uint8]
    rows: pd.DataFrame


def annotated_frames(clip: Clip, *, at_most: int) -> dict[int, str]:
    """Frames with a mask -> "ed", "es" or "": those of the largest and smallest ventricle first, then evenly spread.

    They are named ED and ES where the area falls by a twentieth or more between them.
    """
    assert clip.mask_THW is not None
    known = np.flatnonzero(~(clip.mask_THW == NOT_ANNOTATED).all((1, 2)))
    area = (clip.mask_THW[known] == LEFT_VENTRICLE).sum((1, 2))
    chosen: dict[int, str] = {}
    if len(known) > 1 and area.min() < 0.95 * area.max():
        chosen = {int(known[area.argmax()]): "ed", int(known[area.argmin()]): "es"}
    for frame in known[np.linspace(0, len(known) - 1, min(len(known), at_most)).round().astype(int)].tolist():
        if len(chosen) < at_most:
            chosen.setdefault(frame, "")
    return dict(list(chosen.items())[:at_most])


def traced_frames(
    encoder: Encoder,
    shards: ShardSet,
    *,
    split: str,
    clips: int | None = None,
    frames_per_clip: int = 2,
    batch: int = 16,
    device: torch.device | str = "cpu",
) -> TracedFrames:
    """Annotated frames of up to `clips` clips of a split, each with the tokens of the time index that shows it.

    Raises EchofmError where no clip has a mask or the encoder has no token grid.
    """
    records = shards.split(split)
    with_masks = [index for index, record in enumerate(records.records) if record.n_masks]
    if not with_masks:
        raise EchofmError(
            f"no clip of split {split!r} has a mask; give data with masks (CAMUS, EchoNet-Dynamic, phantom)"
        )
    parts = [_of_clip(encoder, records.clip(index), frames_per_clip, batch, device) for index in with_masks[:clips]]
    tokens, pixels, masks, rows = zip(*parts, strict=True)
    return TracedFrames(
        tokens_FRCD=np.concatenate(tokens),
        pixels_FHW=np.concatenate(pixels),
        mask_FHW=np.concatenate(masks),
        rows=pd.concat(rows, ignore_index=True),
    )


def frame_tokens(
    encoder: Encoder, clip: Clip, frames: Sequence[int], *, batch: int = 16, device: torch.device | str = "cpu"
) -> npt.NDArray[np.float16]:
    """(F, R, C, D) tokens of the time index that shows each of these frames of a clip.

    clip: of the contract's size and channels, at its own rate. A window is laid so that it shows the frame, as near as
    can be to its middle. Raises EchofmError where the encoder has no token grid.
    """
    contract, grid = encoder.contract, encoder.grid
    if grid is None:
        raise EchofmError("this encoder has no tokens by position; segmentation needs a token grid")
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    showing = [
        _window_of(windowing.showing(frame, 0, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW)), times=grid[0])
        for frame in frames
    ]
    low, high = contract.value_range
    tokens = []
    for first in range(0, len(showing), batch):
        some = showing[first : first + batch]
        video_BCTHW = cut_windows(clip, [window for window, _ in some]).to(device).video_BCTHW
        with torch.inference_mode():
            tokens_BND = encoder.encode(video_BCTHW * (high - low) + low).tokens_BND
        tokens_BTRCD = tokens_BND.unflatten(1, tuple(grid)).float().cpu()
        tokens.append(torch.stack([tokens_BTRCD[n, time] for n, (_, time) in enumerate(some)]).half().numpy())
    return np.concatenate(tokens)


def fitted_to(clip: Clip, encoder: Encoder) -> Clip:
    """The clip in the contract's size and channels, at its own rate, so that no frame is dropped."""
    contract = encoder.contract
    return conform(clip, size=contract.size, channels=1 if contract.colour == "grey_bt601" else 3)


def _of_clip(encoder: Encoder, clip: Clip, at_most: int, batch: int, device: torch.device | str) -> tuple:
    clip = fitted_to(clip, encoder)
    assert clip.mask_THW is not None
    chosen = annotated_frames(clip, at_most=at_most)
    frames = list(chosen)
    tokens = frame_tokens(encoder, clip, frames, batch=batch, device=device)
    spacing = clip.pixel_spacing_mm or (np.nan, np.nan)
    rows = pd.DataFrame(
        {
            "clip_id": clip.clip_id,
            "patient_id": clip.patient_id,
            "view": clip.view,
            "frame": frames,
            "event": list(chosen.values()),
            "row_mm": spacing[0],
            "column_mm": spacing[1],
        }
    )
    grey_FHW = clip.frames_TCHW[frames].mean(1).round().astype(np.uint8)
    return tokens, grey_FHW, clip.mask_THW[frames], rows


def _window_of(showing: Iterable[tuple[int, Window]], *, times: int) -> tuple[Window, int]:
    """(window, time index): the one that repeats least, then has the frame nearest its middle and the token's."""

    def rank(shown: tuple[int, Window]) -> tuple[int, float, float]:
        index, window = shown
        span = len(window.indices_L) // times
        time, within = divmod(index, span)
        return int((~window.valid_L).sum()), abs(time - (times - 1) / 2), abs(within - (span - 1) / 2)

    index, window = min(showing, key=rank)
    return window, index // (len(window.indices_L) // times)


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaCurve:
    """area_F: the left ventricle's area per frame, any unit. time_s_F: seconds, evenly spaced."""

    area_F: Floats
    time_s_F: Floats

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return float((len(self.time_s_F) - 1) / (self.time_s_F[-1] - self.time_s_F[0]))

    def direction_F(self, reach_s: float = 0.04) -> npt.NDArray[np.int8]:
        """1 filling, -1 ejecting, 0 neither: sign of the area `reach_s` later minus that as much earlier."""
        last, index = len(self.area_F) - 1, np.arange(len(self.area_F))
        step = max(1, round(reach_s * self.frame_rate_hz))
        change = self.area_F[np.minimum(index + step, last)] - self.area_F[np.maximum(index - step, 0)]
        return np.sign(change).astype(np.int8)


def mask_area(clip: Clip) -> AreaCurve | None:
    """The area curve of a clip whose every frame has a mask with a left ventricle in it; None for others."""
    if clip.mask_THW is None or clip.frame_time_s is None or len(clip.mask_THW) < 2:
        return None
    area = (clip.mask_THW == LEFT_VENTRICLE).sum((1, 2)).astype(np.float64)
    whole = not (clip.mask_THW == NOT_ANNOTATED).all((1, 2)).any()
    return AreaCurve(area_F=area, time_s_F=clip.frame_time_s) if whole and area.min() > 0 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftVentricleReader:
    """Reads the ventricle's area from an encoder's tokens, a frame at a time."""

    encoder: Encoder
    head: FittedHead

    def areas(self, tokens_FRCD: npt.NDArray[np.floating]) -> Floats:
        """(F,) area of each frame, a share of the picture in [0, 1]."""
        return (self.head.predict(tokens_FRCD) == LEFT_VENTRICLE).mean((1, 2))

    def curve(self, clip: Clip, *, batch: int = 16, device: torch.device | str = "cpu") -> AreaCurve:
        """The area in every frame of a clip. Raises EchofmError where the clip's frame times are unknown."""
        if clip.frame_time_s is None:
            raise EchofmError(f"clip {clip.clip_id} does not state its frame times; an area curve needs them")
        clip = fitted_to(clip, self.encoder)
        assert clip.frame_time_s is not None
        tokens_FRCD = frame_tokens(self.encoder, clip, range(len(clip.frames_TCHW)), batch=batch, device=device)
        return AreaCurve(area_F=self.areas(tokens_FRCD), time_s_F=clip.frame_time_s)


def fit_left_ventricle(
    encoder: Encoder,
    train: TracedFrames,
    val: TracedFrames,
    *,
    head: HeadKind = "linear",
    steps: int = 600,
    seed: int = 0,
) -> LeftVentricleReader:
    """Fit on training patients' traced frames, choose on validation patients' (see `traced_frames`)."""
    fitted = fit_head(
        head,
        (train.tokens_FRCD, train.mask_FHW),
        (val.tokens_FRCD, val.mask_FHW),
        classes=int(train.mask_FHW[train.mask_FHW != NOT_ANNOTATED].max()) + 1,
        steps=steps,
        seed=seed,
    )
    return LeftVentricleReader(encoder=encoder, head=fitted)
