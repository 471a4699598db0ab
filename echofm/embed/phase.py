"""PhaseTokens: what the encoder says at each moment of each clip, clips of any length one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseTokens:
    """Token-time features of N clips, P tokens in all; those of one clip are consecutive and in time order.

    Where windows overlap, the tokens nearest the middle of their windows are kept, no two closer than the frames that
    one token sees: each moment occurs once, with the features that saw most on either side of it. A token also carries
    something of its place in its window; where that must not matter (comparing moments far apart), embed with a
    window from every frame (`--windows 100000`): then all but the clip's ends come from the middle of a window.

    feature_PD: float32.
    time_s_P: float64, seconds from the clip's first frame to the middle of the token's frames; NaN where the clip's
        frame times are unknown.
    frame_P: float32, the same moment as an index into the clip's own frames (3.5: between the frames 3 and 4).
    window_P: int32, from which of the clip's windows.
    cycle_P: float32, true cardiac phase in [0, 1), 0 at end-diastole; NaN where no truth is known.
    start_N1: int64, N + 1 offsets: clip n owns the tokens start_N1[n] to start_N1[n + 1].
    """

    feature_PD: Floats
    time_s_P: npt.NDArray[np.float64]
    frame_P: Floats
    window_P: npt.NDArray[np.int32]
    cycle_P: Floats
    start_N1: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        tokens = len(self.feature_PD)
        if self.feature_PD.ndim != 2:
            raise EchofmError(f"phase features have the shape {self.feature_PD.shape}; (tokens, features) is needed")
        for name in ("time_s_P", "frame_P", "window_P", "cycle_P"):
            if getattr(self, name).shape != (tokens,):
                raise EchofmError(
                    f"phase {name[:-2]} has the shape {getattr(self, name).shape}; "
                    f"one number per token is needed, ({tokens},)"
                )
        starts = self.start_N1
        if (
            starts.ndim != 1
            or len(starts) == 0
            or starts[0] != 0
            or starts[-1] != tokens
            or (np.diff(starts) < 0).any()
        ):
            raise EchofmError(f"phase offsets must rise from 0 to the number of tokens, {tokens}")

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.start_N1) - 1

    @property
    def clip_P(self) -> npt.NDArray[np.int64]:
        """Which clip each token is of."""
        return np.repeat(np.arange(len(self)), np.diff(self.start_N1))

    def of(self, clip: int) -> PhaseTokens:
        """The tokens of one clip, as views."""
        first, last = self.start_N1[clip], self.start_N1[clip + 1]
        return PhaseTokens(**_cut(self, slice(first, last)), start_N1=np.array([0, last - first]))

    def take(self, clips: npt.NDArray[np.int64]) -> PhaseTokens:
        """The tokens of some clips, in the order asked for."""
        lengths = np.diff(self.start_N1)[clips]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        # Token k of the result is the (k - its clip's new start)-th of the clip, counted from the clip's old start.
        index = np.arange(starts[-1]) + np.repeat(self.start_N1[:-1][clips] - starts[:-1], lengths)
        return PhaseTokens(**_cut(self, index), start_N1=starts)

    @classmethod
    def concat(cls, parts: Sequence[PhaseTokens]) -> PhaseTokens:
        """Clips of several parts, one part after another. Raises EchofmError where the widths differ."""
        widths = {part.feature_PD.shape[1] for part in parts}
        if len(widths) != 1:
            raise EchofmError(f"phase features of different widths cannot be put together: {sorted(widths)}")
        names = [each.name for each in fields(cls) if each.name != "start_N1"]
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
            start_N1=joined_starts(parts),
        )

    @classmethod
    def from_arrays(
        cls,
        feature: npt.ArrayLike | Sequence[npt.ArrayLike],
        *,
        time_s: Sequence[npt.ArrayLike] | None = None,
        cycle: Sequence[npt.ArrayLike] | None = None,
    ) -> PhaseTokens:
        """From one (T, D) array per clip, T as it may be, or an (N, T, D) array; times and true phases alike, (T,)."""
        clips = [np.asarray(each, np.float32) for each in feature]  # type: ignore[union-attr]
        if not clips or any(each.ndim != 2 or each.shape[1] != clips[0].shape[1] for each in clips):
            raise EchofmError("phase features need one (tokens, features) array per clip, all of one width")
        lengths = [len(each) for each in clips]
        feature_PD = np.concatenate(clips)
        return cls(
            feature_PD=feature_PD,
            time_s_P=_per_token("time_s", time_s, lengths, np.float64),
            frame_P=np.full(len(feature_PD), np.nan, np.float32),
            window_P=np.zeros(len(feature_PD), np.int32),
            cycle_P=_per_token("cycle", cycle, lengths, np.float32),
            start_N1=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )


def joined_starts(parts: Sequence[PhaseTokens]) -> npt.NDArray[np.int64]:
    """Offsets of several parts put one after another, (N + 1,)."""
    lengths = np.concatenate([np.diff(part.start_N1) for part in parts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _cut(tokens: PhaseTokens, index: slice | npt.NDArray[np.int64]) -> dict[str, npt.NDArray]:
    return {name: getattr(tokens, name)[index] for name in ("feature_PD", "time_s_P", "frame_P", "window_P", "cycle_P")}


def _per_token(
    name: str, values: Sequence[npt.ArrayLike] | None, lengths: list[int], dtype: type[np.floating]
) -> npt.NDArray:
    if values is None:
        return np.full(sum(lengths), np.nan, dtype)
    arrays = [np.asarray(each, dtype) for each in values]
    if [each.shape for each in arrays] != [(length,) for length in lengths]:
        raise EchofmError(f"phase {name} needs one number per token of each clip")
    return np.concatenate(arrays)
