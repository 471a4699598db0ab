"""Clips through an encoder: windows, batches, averages, and the tokens of all windows as one timeline.

W windows, T token times of a window, R rows, C columns, S frames per token, F frames of the clip, D features.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F

from echofm.acoustic import Kind, perturbed_clip
from echofm.clip import Clip, ClipBatch
from echofm.embed.inputs import Item, conformed
from echofm.embed.phase import PhaseTokens
from echofm.embed.rows import SIMULATED, stack_rows
from echofm.embed.table import EmbeddingTable
from echofm.embed.tokens import SpaceTimeTokens, TokenGrid, check_grid
from echofm.errors import EchofmError
from echofm.shards.windows import Window, Windowing, cut_windows, rebatched

if TYPE_CHECKING:
    from echofm.encoder import AnyEncoder
    from echofm.model.vit import Encoding

Precision = Literal["fp32", "bf16"]
Floats = npt.NDArray[np.float32]
# Rows and columns of a clip's motion map: where something moves matters (on the phantom an ejection fraction is read
# far better from 4 x 4 places than from their mean), exactly where does not.
MOTION_CELLS = 4


@dataclass(frozen=True)
class _Taken:
    """A clip on its way: its row, its windows, and its frames' times and phases."""

    row: dict[str, object]
    windows: list[Window]
    frame_time_s: npt.NDArray[np.float64] | None
    phase_F: Floats | None


# By name, features of a batch of windows; tokens of those among them that are the middle of their clip.
_Features = dict[str, Floats]


def embed_clips(encoder: AnyEncoder, clips: Iterable[Clip], **options: Any) -> EmbeddingTable:
    """Embed clips as read (`echofm.read_clip`); options as in `Extractor`. The quick way for a few clips in Python."""
    items = (
        Item(clip=conformed(clip, encoder.contract), file_id=clip.clip_id, frame_rate_hz=clip.frame_rate_hz)
        for clip in clips
    )
    return Extractor(encoder=encoder, **options).table(items)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Applies one encoder to clips that `echofm.embed.inputs` has brought under its contract.

    windows: per clip, spread evenly; None takes as many as cover the whole clip. Their features are averaged.
    batch: windows per forward pass. precision: bf16 is faster where the hardware has it and differs in the third digit.
    phase: also keep the token-time features. tokens: also keep the tokens of each clip's middle window, average-pooled
    to this grid of (times, rows, columns). perturb: acoustic kinds and strengths laid over every clip.
    Raises EchofmError where the encoder's tokens cannot be pooled to that grid.
    """

    encoder: AnyEncoder
    windows: int | None = None
    batch: int = 16
    device: torch.device | str = "cpu"
    precision: Precision = "fp32"
    phase: bool = True
    tokens: TokenGrid | None = None
    perturb: Mapping[Kind, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens is not None:
            check_grid(self.tokens, self.encoder.grid)

    @property
    def settings(self) -> dict[str, str | int]:
        """What decides the features beside the encoder; kept in the table."""
        kept: dict[str, str | int] = {
            "windows": "whole clip" if self.windows is None else self.windows,
            "precision": self.precision,
        }
        if self.perturb:
            kept["perturb"] = ",".join(f"{kind}:{value:g}" for kind, value in sorted(self.perturb.items()))
        return kept if self.tokens is None else kept | {"tokens": ",".join(map(str, self.tokens))}

    def table(self, items: Iterable[Item]) -> EmbeddingTable:
        """Embed clips, in their order. Raises EchofmError where a clip's features are not finite."""
        taken: list[_Taken] = []
        batches: list[_Features] = []
        middle: list[bool] = []
        for batch in rebatched(self._cut(items, taken, middle), self.batch):
            batches.append(self._encode(batch, np.array(middle[: len(batch)])))
            del middle[: len(batch)]
        found = {name: np.concatenate([each[name] for each in batches]) for name in batches[0]} if batches else {}
        ends = np.cumsum([len(each.windows) for each in taken])[:-1]
        by_clip = {name: np.split(of_windows, ends) for name, of_windows in found.items() if name != "tokens"}
        for each, video_WD in zip(taken, by_clip.get("video", ())):
            if not np.isfinite(video_WD).all():
                raise EchofmError(
                    f"the encoder gives no finite features for clip {each.row['clip_id']}; is it damaged?"
                )
        mean = {
            name: np.stack([each.mean(0) for each in by_clip[name]]) for name in ("video", "motion") if name in found
        }
        return EmbeddingTable(
            video_ND=mean.get("video", np.zeros((0, 0), np.float32)),
            rows=stack_rows([pd.DataFrame([each.row]) for each in taken]),
            motion_NRCD=mean.get("motion"),
            phase=self._timelines(taken, by_clip["phase"]) if "phase" in found else None,
            tokens=SpaceTimeTokens(feature_NTRCD=found["tokens"]) if "tokens" in found else None,
            encoder_digest=self.encoder.digest,
            contract=self.encoder.contract.model_dump(mode="json"),
            settings=self.settings,
            phase_digest=getattr(self.encoder, "phase_digest", ""),
        )

    def _timelines(self, taken: Sequence[_Taken], phases: Sequence[Floats]) -> PhaseTokens:
        """The clips' tokens by time."""
        return PhaseTokens.concat(
            [
                stitch(each.windows, phase_WTD, frame_time_s=each.frame_time_s, phase_F=each.phase_F)
                for each, phase_WTD in zip(taken, phases)
            ]
        )

    def _cut(self, items: Iterable[Item], taken: list[_Taken], middle: list[bool]) -> Iterator[ClipBatch]:
        """Each clip's windows; `taken` notes of each clip all but its pixels, `middle` which window is its middle."""
        contract = self.encoder.contract
        windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
        for number, item in enumerate(items):
            clip = perturbed_clip(item.clip, self.perturb) if self.perturb else item.clip
            windows = windowing.spread(
                number, clip.clip_id, clip.frame_time_s, len(clip.frames_TCHW), count=self.windows
            )
            taken.append(_Taken(_row(item, len(windows)), windows, clip.frame_time_s, clip.phase_T))
            middle += [position == len(windows) // 2 for position in range(len(windows))]
            yield cut_windows(clip, windows)

    def _encode(self, batch: ClipBatch, middle_B: npt.NDArray[np.bool_]) -> _Features:
        low, high = self.encoder.contract.value_range
        device = torch.device(self.device)
        video_BCTHW = batch.to(device).video_BCTHW * (high - low) + low
        # The frame rate is not passed: clips of known times have the contract's, others are marked in the table.
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            encoding = self.encoder.encode(video_BCTHW)
            found = {"video": encoding.video_BD, "motion": self._moved(encoding)}
            if self.phase and encoding.phase_BTD.shape[1]:
                found["phase"] = encoding.phase_BTD
            if self.tokens is not None:
                found["tokens"] = self._pooled(encoding.tokens_BND, middle_B)
        return {name: tensor.float().cpu().numpy() for name, tensor in found.items() if tensor is not None}

    def _moved(self, encoding: Encoding) -> torch.Tensor | None:
        """How much each feature varies over a window at each place, then pooled: after pooling less of it is left."""
        grid = self.encoder.grid
        if grid is not None and grid[0] > 1:
            moved_BRCD = encoding.tokens_BND.float().unflatten(1, tuple(grid)).std(1, correction=0)
            cells = (min(MOTION_CELLS, grid[1]), min(MOTION_CELLS, grid[2]))
            return F.adaptive_avg_pool2d(moved_BRCD.permute(0, 3, 1, 2), cells).permute(0, 2, 3, 1)
        # Without places, of the whole picture's vectors.
        return (
            encoding.phase_BTD.float().std(1, correction=0)[:, None, None] if encoding.phase_BTD.shape[1] > 1 else None
        )

    def _pooled(self, tokens_BND: torch.Tensor, middle_B: npt.NDArray[np.bool_]) -> torch.Tensor:
        assert self.tokens is not None and self.encoder.grid is not None
        chosen = tokens_BND[torch.from_numpy(middle_B).to(tokens_BND.device)].float()
        grid_MDTRC = chosen.transpose(1, 2).unflatten(2, tuple(self.encoder.grid))
        return F.adaptive_avg_pool3d(grid_MDTRC, self.tokens).permute(0, 2, 3, 4, 1)


def stitch(
    windows: Sequence[Window],
    phase_WTD: Floats,
    *,
    frame_time_s: npt.NDArray[np.float64] | None,
    phase_F: Floats | None,
) -> PhaseTokens:
    """The tokens of a clip's windows as one timeline: see `PhaseTokens` for what is kept where windows overlap.

    Tokens that lie wholly in the repeated part of a looped clip are dropped. frame_time_s, phase_F: of the clip's
    frames; None where unknown.
    """
    times = phase_WTD.shape[1]
    indices_WTS = np.stack([window.indices_L for window in windows]).reshape(len(windows), times, -1)
    valid_WTS = np.stack([window.valid_L for window in windows]).reshape(indices_WTS.shape)
    frame_WT = _mean(indices_WTS, valid_WTS)
    middle_W1 = np.array([[window.indices_L[window.valid_L].mean()] for window in windows])
    kept = _kept(frame_WT, np.abs(frame_WT - middle_W1), apart=indices_WTS.shape[2])
    unknown = np.full(int(indices_WTS.max()) + 1, np.nan)
    seconds = unknown if frame_time_s is None else frame_time_s
    angle = unknown if phase_F is None else 2 * np.pi * phase_F.astype(np.float64)
    circle_WT = np.arctan2(_mean(np.sin(angle)[indices_WTS], valid_WTS), _mean(np.cos(angle)[indices_WTS], valid_WTS))
    return PhaseTokens(
        feature_PD=phase_WTD.reshape(frame_WT.size, -1)[kept],
        time_s_P=_mean(seconds[indices_WTS], valid_WTS).ravel()[kept],
        frame_P=frame_WT.ravel()[kept].astype(np.float32),
        window_P=(kept // times).astype(np.int32),
        # Rounded to float32 a phase just under 1 may become 1, which is 0.
        cycle_P=(circle_WT.ravel()[kept] / (2 * np.pi) % 1).astype(np.float32) % 1,
        start_N1=np.array([0, len(kept)], np.int64),
    )


def _kept(frame_WT: npt.NDArray[np.float64], off_middle_WT: npt.NDArray[np.float64], *, apart: int) -> npt.NDArray:
    """Of all windows' tokens those nearest the middle of their windows, by time, as indices into W * T.

    No two of different windows are closer than `apart` frames; NaN (all frames are repeats) is left out.
    """
    frames, windows = frame_WT.ravel(), np.indices(frame_WT.shape)[0].ravel()
    positions: list[float] = []
    kept: list[int] = []
    for token in np.argsort(off_middle_WT.ravel(), kind="stable").tolist():
        position = bisect.bisect(positions, frames[token])
        beside = kept[max(0, position - 1) : position + 1]
        near = [other for other in beside if abs(frames[token] - frames[other]) < apart - 1e-6]
        if np.isfinite(frames[token]) and all(windows[other] == windows[token] for other in near):
            positions.insert(position, float(frames[token]))
            kept.insert(position, token)
    return np.array(kept, np.int64)


def _mean(values_WTS: npt.NDArray, valid_WTS: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Mean over the valid frames of each token, (W, T); NaN where it has none."""
    count_WT = valid_WTS.sum(2)
    total_WT = np.where(valid_WTS, values_WTS, 0).sum(2)
    return np.divide(total_WT, count_WT, out=np.full(count_WT.shape, np.nan), where=count_WT > 0)


def _row(item: Item, windows: int) -> dict[str, object]:
    clip = item.clip
    return {
        # First, so that a label under the name of one of the table's own columns (of older shards) takes no place.
        **clip.labels,
        "clip_id": clip.clip_id,
        "patient_id": clip.patient_id,
        "study_id": clip.study_id,
        "split": item.split,
        "dataset": item.dataset,
        "view": clip.view,
        "kind": clip.kind,
        SIMULATED: clip.simulated,
        "frame_rate_hz": item.frame_rate_hz,
        "frames": len(clip.frames_TCHW),
        "windows": windows,
    }
