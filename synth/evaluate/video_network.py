"""A video network trained from scratch on the clips of one set to tell EF, and tested on real patients.

Nothing is chosen: so many updates at one schedule, the last weights. Labels are standardised by the set trained on.
Shapes: N clips, B in a batch, T = 16 frames at 12.5 Hz, H = W = 64, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from synth.evaluate.reader import Labelled
from synth.evaluate.settings import VideoNetwork

FRAMES, SEEDS = 16, 3
_BATCH, _LR, _WIDTHS, _STRIDES, _GROUPS = 16, 2e-3, (16, 32, 64), (4, 2, 2), 4
Clip64 = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """Clips whose EF is known, of one set. clips: in the same order, (FRAMES or more, 64, 64)."""

    known: Labelled
    clips: Sequence[Clip64]

    def __len__(self) -> int:
        return len(self.clips)

    def drawn(self, count: int, seed: int) -> Filmed:
        """So many of them."""
        index = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return Filmed(known=self.known.some(index), clips=[self.clips[each] for each in index])


@dataclass(frozen=True, kw_only=True)
class VideoReader:
    """Trains on some clips and reads EF of others. real: the training patients' clips; held: those read."""

    network: VideoNetwork
    steps: int
    seed: int
    device: str
    real: Filmed
    held: Filmed
    _as_many: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def read(self, train: Filmed) -> npt.NDArray[np.float64]:
        """EF of the held clips (S, N), by networks trained on others."""
        return np.stack([self._fit_and_read(train, self.seed + each) for each in range(SEEDS)])

    def as_many(self, count: int) -> npt.NDArray[np.float64]:
        """The same by networks trained on so many real clips: once, however many sets they stand beside."""
        if count not in self._as_many:
            self._as_many[count] = self.read(self.real.drawn(count, self.seed))
        return self._as_many[count]

    def _fit_and_read(self, train: Filmed, seed: int) -> npt.NDArray[np.float64]:
        clips, ef_N = train.clips, train.known.label_N
        mean, std = float(ef_N.mean()), float(ef_N.std())
        label_N = torch.as_tensor((ef_N - mean) / std, dtype=torch.float32, device=self.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = _build(self.network).to(self.device)
            optimizer = torch.optim.AdamW(net.parameters(), lr=_LR, weight_decay=1e-2)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            draw = np.random.default_rng(seed)
            for _ in range(self.steps):
                rows = draw.integers(len(clips), size=_BATCH)
                starts = [draw.integers(len(clips[row]) - FRAMES + 1) for row in rows]
                video_B1THW = self._batch([clips[row][at : at + FRAMES] for row, at in zip(rows, starts)])
                optimizer.zero_grad()
                F.mse_loss(net(video_B1THW)[:, 0], label_N[rows]).backward()
                optimizer.step()
                schedule.step()
        return mean + std * self._predict(net.eval())

    @torch.no_grad()
    def _predict(self, net: nn.Module) -> npt.NDArray[np.float64]:
        """Mean of the first, the middle and the last window of each held clip."""
        found = []
        for part in _parts(self.held.clips):
            windows = [[(len(clip) - FRAMES) * place // 2 for clip in part] for place in range(3)]
            read = [
                net(self._batch([clip[at : at + FRAMES] for clip, at in zip(part, each)]))[:, 0] for each in windows
            ]
            found.append(torch.stack(read).mean(0).double().cpu().numpy())
        return np.concatenate(found)

    def _batch(self, windows: Sequence[Clip64]) -> torch.Tensor:
        return torch.from_numpy(np.stack(windows)).to(self.device)[:, None].float() / 127.5 - 1


def _parts(clips: Sequence[Clip64]) -> Iterator[Sequence[Clip64]]:
    return (clips[first : first + _BATCH] for first in range(0, len(clips), _BATCH))


def _build(network: VideoNetwork) -> nn.Module:
    if network == "small":
        return _small()
    from torchvision.models.video import r2plus1d_18

    return nn.Sequential(_ThreeChannels(), r2plus1d_18(weights=None, num_classes=1))


class _ThreeChannels(nn.Module):
    def forward(self, video_B1THW: torch.Tensor) -> torch.Tensor:
        """The same grey in all three."""
        return video_B1THW.expand(-1, 3, -1, -1, -1)


def _small() -> nn.Module:
    """Convolutions over space, then over time, thrice, as in R(2+1)D (https://arxiv.org/abs/1711.11248)."""
    layers: list[nn.Module] = []
    before = 1
    for width, stride in zip(_WIDTHS, _STRIDES):
        space = nn.Conv3d(before, width, (1, 5, 5), (1, stride, stride), (0, 2, 2))
        time = nn.Conv3d(width, width, (3, 1, 1), 1, (1, 0, 0))
        layers += [space, nn.GroupNorm(_GROUPS, width), nn.ReLU(), time, nn.GroupNorm(_GROUPS, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(before, 1))
