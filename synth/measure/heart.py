"""HeartReader: the left ventricle's area in every frame of a window, and the ejection fraction, as read by an encoder.

Shapes: B clips, T frames, H rows, W columns; R, C rows and columns of tokens, N of them, D numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from echofm.augment import fit_to
from echofm.clip import ClipBatch
from echofm.contract import InputContract
from echofm.engine.held_out import held_out
from echofm.errors import EchofmError
from echofm.estimators.left_ventricle import LeftVentricleReader, fit_left_ventricle, traced_frames
from echofm.hub import Encoder
from echofm.shards.read import ShardSet
from synth.conditioner import each_frame
from synth.generator.config import DataConfig
from synth.generator.frozen import Seen

Floats = npt.NDArray[np.float64]
# A ventricle's end-systolic over end-diastolic area is about this power of its volumes' ratio.
_POWER = 1.5
_AT_ONCE = 8


class HeartReader:
    """Reads windows of one length and rate.

    Areas are the core's reader's (`echofm.estimators.left_ventricle`); the ejection fraction is a line from their
    ratio. Both are fitted on training patients alone.
    """

    def __init__(self, areas: LeftVentricleReader, seen: Seen, line: tuple[float, float] = (1.0, 0.0)) -> None:
        self._areas, self._seen, self._line = areas, seen, line

    @classmethod
    def fit(cls, encoder: Encoder, shards: ShardSet, contract: InputContract, *, clips: int = 96) -> HeartReader:
        """On so many training clips, with masks and ejection fractions; the head is chosen on val.

        contract: of the windows. Raises EchofmError where encoder and windows are of unlike length.
        """
        data = DataConfig(frames=contract.frames, frame_rate_hz=contract.frame_rate_hz)
        areas = fit_left_ventricle(
            encoder,
            traced_frames(encoder, shards, split="train", clips=clips, frames_per_clip=4),
            traced_frames(encoder, shards, split="val", clips=max(1, clips // 3), frames_per_clip=4),
        )
        reader = cls(areas, Seen(encoder, data, name="the reader's encoder"))
        batch = windows_of(shards, "train", contract, clips=clips)
        slope, offset = np.polyfit(reader.emptied_B(reader.areas_BT(batch.video_BCTHW)), ef_percent_of(batch), 1)
        return cls(areas, reader._seen, (float(slope), float(offset)))

    @torch.no_grad()
    def areas_BT(self, video_BCTHW: torch.Tensor) -> Floats:
        """Share of the picture, of clips in [0, 1] as they are and as files hold them: in 255ths."""
        clips, _, frames = video_BCTHW.shape[:3]
        grid, found = self._seen.grid, []
        for video in video_BCTHW.split(_AT_ONCE):
            tokens_BND = self._seen((video * 255).round() / 255).tokens_BND.cpu()
            tokens_BTD = each_frame(tokens_BND.unflatten(1, (grid.time, -1)).flatten(2), frames)
            tokens_FRCD = tokens_BTD.flatten(0, 1).unflatten(1, (grid.rows, grid.columns, -1)).numpy()
            found.append(self._areas.areas(tokens_FRCD.astype(np.float16)))
        return np.concatenate(found).reshape(clips, frames)

    @torch.no_grad()
    def features_BD(self, video_BCTHW: torch.Tensor) -> Floats:
        """The encoder's vector of each clip."""
        parts = [self._seen((video * 255).round() / 255).video_BD for video in video_BCTHW.split(_AT_ONCE)]
        return torch.cat(parts).double().cpu().numpy()

    def emptied_B(self, areas_BT: Floats) -> Floats:
        """1 - (least over largest area)^1.5; percentiles, as a single frame may be read wrong."""
        least_B, largest_B = np.percentile(areas_BT, [8, 92], axis=1)
        return 1 - (least_B / np.maximum(largest_B, 1e-6)) ** _POWER

    def ef_percent_B(self, video_BCTHW: torch.Tensor) -> Floats:
        """Of clips in [0, 1]."""
        slope, offset = self._line
        return slope * self.emptied_B(self.areas_BT(video_BCTHW)) + offset


def windows_of(shards: ShardSet, split: str, contract: InputContract, *, clips: int) -> ClipBatch:
    """The middle windows of clips spread over a split, fitted to the contract, with labels, view and phase."""
    if not len(shards.split(split)):
        raise EchofmError(f"the split {split!r} has no clip to measure on")
    batch = held_out(shards.split(split), contract, clips=clips, carry=["labels", "view", "phase"])
    return fit_to(batch, contract)


def numbers_of(shards: ShardSet, split: str, *, clips: int) -> list[int]:
    """Which clips of the split `windows_of` takes."""
    return np.unique(np.linspace(0, len(shards.split(split)) - 1, clips).round().astype(int)).tolist()


def ef_percent_of(batch: ClipBatch) -> Floats:
    """Of a batch's labels. Raises EchofmError where a clip states none."""
    labels = batch.labels or []
    found = [float(each["ef_percent"]) for each in labels if "ef_percent" in each]
    if len(found) < len(batch):
        raise EchofmError("clips without an ejection fraction: give shards of a set whose table states it")
    return np.array(found)
