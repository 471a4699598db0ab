"""An encoder's features of every frame of a clip: a window from each frame, and rules to read one vector a frame.

W windows, T token times of a window, F frames of the clip, N tokens of a window, D and K features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
import torch.nn.functional as F

from echofm.clip import Clip
from echofm.conform import conform
from echofm.errors import EchofmError
from echofm.loss.periodic import along_trajectories
from echofm.shards.windows import Windowing, cut_windows

if TYPE_CHECKING:
    from echofm.hub import Encoder
    from echofm.model.vit import Encoding

Source = Literal["phase", "tokens", "grid"]
_GRID_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How one vector per frame is read from overlapping windows, and how two frames are compared.

    source: "phase" (the encoder's vector per time index), "tokens" (mean of a time index's tokens) or "grid" (its
        tokens side by side, pooled to at most 8 x 8 positions).
    windows: "middle" takes the windows in which the frame is nearest the middle, "all" averages every window.
    centre_positions: take from each token the clip's mean at its position in the window, left by positional embeddings.
    motion_weight: 0 compares features; up to 1 their change over `reach_s` seconds either side is weighed in, as in
        `echofm.loss.periodic.motion_prior`.
    along_s: the ways to and from two frames are compared over so many seconds either side
        (`echofm.loss.periodic.along_trajectories`).
    """

    source: Source = "phase"
    windows: Literal["middle", "all"] = "middle"
    centre_positions: bool = False
    motion_weight: float = 0.0
    reach_s: float = 0.04
    along_s: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipWindows:
    """A clip's windows as the encoder sees them.

    features: source -> (W, T, K) float32. time_s_WT: middle of each token's frames, seconds; NaN for repeated frames.
    frame_time_s: (F,) of the clip's own frames.
    """

    features: Mapping[str, npt.NDArray[np.float32]]
    time_s_WT: npt.NDArray[np.float64]
    frame_time_s: npt.NDArray[np.float64]


def sources_of(encoder: Encoder) -> tuple[Source, ...]:
    """What an encoder tells by time."""
    return get_args(Source) if encoder.grid is not None else ("phase",)


@torch.no_grad()
def encode_windows(
    encoder: Encoder,
    clip: Clip,
    *,
    batch: int = 16,
    sources: tuple[str, ...] = get_args(Source),
    device: torch.device | str = "cpu",
) -> ClipWindows:
    """Encode a window from every frame at which a whole one fits, at the contract's rate, frames of the clip's own.

    Raises EchofmError where the clip's frame times are unknown or the encoder has no such source.
    """
    if clip.frame_time_s is None:
        raise EchofmError(f"clip {clip.clip_id} does not tell its frame times; frames half a second apart need them")
    contract, time_s = encoder.contract, clip.frame_time_s
    # Not to the contract's rate: windows start between its frames too, so each frame is seen from several phases.
    clip = conform(clip, size=contract.size, channels=1 if contract.colour == "grey_bt601" else 3)
    windowing = Windowing(length=contract.frames, frame_rate_hz=contract.frame_rate_hz)
    windows = windowing.spread(0, clip.clip_id, time_s, len(clip.frames_TCHW), count=len(clip.frames_TCHW))
    low, high = contract.value_range
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in sources}
    for first in range(0, len(windows), batch):
        video_BCTHW = cut_windows(clip, windows[first : first + batch]).to(device).video_BCTHW
        encoding = encoder.encode(video_BCTHW * (high - low) + low)
        for name, part in _read(encoding, encoder.grid, sources).items():
            parts[name].append(part.float().cpu().numpy())
    features = {name: np.concatenate(part) for name, part in parts.items()}
    return ClipWindows(
        features=features,
        time_s_WT=_token_times(windows, time_s, times=next(iter(features.values())).shape[1]),
        frame_time_s=time_s,
    )


def frame_features(encoded: ClipWindows, reading: Reading) -> npt.NDArray[np.float32]:
    """(F, K): at each token time the mean of the windows that the reading takes, then linearly between token times."""
    features_WTK = encoded.features[reading.source]
    if reading.centre_positions:
        features_WTK = features_WTK - features_WTK.mean(0, keepdims=True)
    windows, times = encoded.time_s_WT.shape
    known = np.flatnonzero(np.isfinite(encoded.time_s_WT.ravel()))
    time_s_U, index_N = np.unique(encoded.time_s_WT.ravel()[known].round(6), return_inverse=True)
    taken_N = np.ones(len(known), bool)
    if reading.windows == "middle":
        off_middle_N = np.abs(np.tile(np.arange(times) - (times - 1) / 2, windows))[known]
        least_U = np.full(len(time_s_U), np.inf)
        np.minimum.at(least_U, index_N, off_middle_N)
        taken_N = off_middle_N <= least_U[index_N]
    rows, columns = index_N[taken_N], known[taken_N]
    shares = 1 / np.bincount(rows, minlength=len(time_s_U))[rows]
    mean_UN = scipy.sparse.csr_matrix((shares, (rows, columns)), shape=(len(time_s_U), windows * times))
    between_FU = _interpolation(encoded.frame_time_s, time_s_U)
    return np.asarray(between_FU @ (mean_UN @ features_WTK.reshape(windows * times, -1)), np.float32)


def frame_similarity(
    features_FK: npt.NDArray[np.floating], reading: Reading, *, frame_rate_hz: float
) -> npt.NDArray[np.float64]:
    """(F, F) cosine of features about the clip's mean; the cosine of their changes and the ways to the frames weighed
    in as the reading says."""
    x_FK = torch.from_numpy(np.asarray(features_FK, np.float64))
    similarity = _cosine(x_FK - x_FK.mean(0))
    weight = reading.motion_weight
    if weight:
        step = max(1, round(reading.reach_s * frame_rate_hz))
        last = len(x_FK) - 1
        index = torch.arange(len(x_FK))
        change_FK = x_FK[(index + step).clamp(max=last)] - x_FK[(index - step).clamp(min=0)]
        similarity = (1 - weight) * similarity + weight * _cosine(change_FK)
    return along_trajectories(similarity[None], reach=round(reading.along_s * frame_rate_hz))[0].numpy()


def _interpolation(wanted_s: npt.NDArray[np.float64], known_s: npt.NDArray[np.float64]) -> scipy.sparse.csr_matrix:
    """(wanted, known) weights of np.interp: linear between known times, the nearest beyond them."""
    at = np.interp(wanted_s, known_s, np.arange(len(known_s)))
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, len(known_s) - 1)
    index = np.arange(len(wanted_s))
    weights, columns = np.concatenate([1 - (at - low), at - low]), np.concatenate([low, high])
    return scipy.sparse.csr_matrix((weights, (np.tile(index, 2), columns)), shape=(len(wanted_s), len(known_s)))


def _cosine(x_FK: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(x_FK, dim=1)
    return unit @ unit.T


def _read(encoding: Encoding, grid: tuple[int, int, int] | None, sources: tuple[str, ...]) -> dict[str, torch.Tensor]:
    phase_BTD, tokens_BND = encoding.phase_BTD, encoding.tokens_BND
    found = {"phase": phase_BTD}
    if grid is not None:
        tokens_BTSD = tokens_BND.unflatten(1, (grid[0], -1))
        found["tokens"] = tokens_BTSD.mean(2)
        maps = tokens_BTSD.flatten(0, 1).transpose(1, 2).unflatten(2, grid[1:])
        pooled = F.adaptive_avg_pool2d(maps, (min(grid[1], _GRID_SIDE), min(grid[2], _GRID_SIDE)))
        found["grid"] = pooled.flatten(1).unflatten(0, (len(tokens_BND), grid[0]))
    lacking = [name for name in sources if name not in found or found[name].shape[1] == 0]
    if lacking:
        raise EchofmError(f"this encoder tells no {' and no '.join(lacking)} by time; take another source")
    return {name: found[name] for name in sources}


def _token_times(windows: list, frame_time_s: npt.NDArray[np.float64], *, times: int) -> npt.NDArray[np.float64]:
    seconds = np.stack([frame_time_s[window.indices_L] for window in windows]).reshape(len(windows), times, -1)
    valid = np.stack([window.valid_L for window in windows]).reshape(seconds.shape).all(2)
    return np.where(valid, seconds.mean(2), np.nan)
