"""SpaceTimeTokens: what the encoder says at each place and time of each clip's middle window, on one small grid.

N clips, T times, R rows, C columns, D features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError

TokenGrid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceTimeTokens:
    """Tokens of one window per clip, average-pooled to a grid that all clips share.

    feature_NTRCD: float32; T runs over the window's time, R over rows from the top, C over columns from the left; of an
        encoder that sees frames one by one T counts frames. May be mapped from disk and read-only.
    """

    feature_NTRCD: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shape, kind = self.feature_NTRCD.shape, self.feature_NTRCD.dtype
        if len(shape) != 5 or kind != np.float32 or 0 in shape[1:]:
            raise EchofmError(
                f"space-time tokens are {kind} {shape}; float32 (clips, times, rows, columns, features) is needed"
            )

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.feature_NTRCD)

    @property
    def grid(self) -> TokenGrid:
        """Times, rows, columns."""
        times, rows, columns = self.feature_NTRCD.shape[1:4]
        return times, rows, columns

    def take(self, clips: npt.NDArray[np.int64]) -> SpaceTimeTokens:
        """The tokens of some clips, in the order asked for."""
        return SpaceTimeTokens(feature_NTRCD=self.feature_NTRCD[clips])

    @classmethod
    def concat(cls, parts: Sequence[SpaceTimeTokens]) -> SpaceTimeTokens:
        """Clips of several parts, one part after another. Raises EchofmError where grids or widths differ."""
        require_one_grid(parts)
        return cls(feature_NTRCD=np.concatenate([part.feature_NTRCD for part in parts]))


def require_one_grid(parts: Sequence[SpaceTimeTokens]) -> None:
    """Raises EchofmError where grids or widths differ."""
    shapes = sorted({part.feature_NTRCD.shape[1:] for part in parts})
    if len(shapes) != 1:
        raise EchofmError(f"space-time tokens of different shapes cannot be put together: {shapes}")


def parse_grid(text: str) -> TokenGrid:
    """A grid as the command line writes it, "4,7,7". Raises EchofmError on anything else."""
    if not re.fullmatch(r"[1-9]\d{0,3},[1-9]\d{0,3},[1-9]\d{0,3}", text):
        raise EchofmError(f"--tokens {text!r} is no grid; write times,rows,columns, e.g. 4,7,7")
    times, rows, columns = map(int, text.split(","))
    return times, rows, columns


def check_grid(asked: TokenGrid, has: TokenGrid | None) -> None:
    """Raises EchofmError where an encoder with the token grid `has` (None: no tokens) cannot be pooled to `asked`."""
    if has is None:
        raise EchofmError("this encoder gives no tokens of places and times; embed without --tokens")
    if any(want > own for want, own in zip(asked, has)):
        raise EchofmError(
            f"tokens {','.join(map(str, asked))} are finer than the encoder's own grid; "
            f"at most {','.join(map(str, has))} can be kept"
        )
