"""decord in place of PyAV, for those whose data or GPU ask for it: the same frames, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from echofm.readers.refused import Refused
from echofm.readers.turn import Turn

Decoder = Literal["pyav", "decord", "decord-gpu"]
# Mean grey levels by which two decoders' frames may differ: rounding of colours on another device.
_SAME = 2.0
_AT_ONCE = 16


def decord_frames(
    source: BinaryIO, *, decoder: Decoder, count: int, first_HWC: npt.NDArray[np.uint8], turn: Turn
) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB frames (H, W, 3) in order, turned as the file says; always read in sequence, as decord seeks wrongly.

    first_HWC: the first frame by PyAV, not yet turned. Refused where decord is missing, has no GPU, finds another
    number of frames than the file holds, or begins with another one.
    """
    try:
        import decord
    except ImportError:
        raise Refused("decord is not installed: pip install decord, or leave --decoder out") from None
    try:
        place = decord.gpu(0) if decoder == "decord-gpu" else decord.cpu(0)
        reader = decord.VideoReader(source, ctx=place, num_threads=1)
        if len(reader) != count:
            raise Refused(f"decord finds {len(reader)} of its {count} frames; leave --decoder out")
        for start in range(0, count, _AT_ONCE):
            frames = reader.get_batch(range(start, min(start + _AT_ONCE, count))).asnumpy()
            if start == 0:
                # decord turns some files itself.
                turn = _left_to_turn(frames[0], first_HWC, turn)
            yield from map(turn.of, frames)
    except (decord.DECORDError, RuntimeError):
        where = "on a GPU: it was built without, or there is none" if decoder == "decord-gpu" else "to its end"
        raise Refused(f"decord cannot decode it {where}; leave --decoder out") from None


def _left_to_turn(ours: npt.NDArray[np.uint8], first_HWC: npt.NDArray[np.uint8], turn: Turn) -> Turn:
    for left, expected in ((turn, first_HWC), (Turn(), turn.of(first_HWC))):
        if ours.shape == expected.shape and np.abs(ours.astype(np.int16) - expected).mean() <= _SAME:
            return left
    raise Refused("decord begins with another frame than the file; leave --decoder out")
