"""ReadOptions: how files are read, the same for every file of a job."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from echofm.errors import EchofmError
from echofm.ids import IdKey, load_key
from echofm.readers.decord_video import Decoder
from echofm.readers.labels import OwnLabels
from echofm.readers.limits import Limits

Mask = npt.NDArray[np.bool_]
_INSIDE = 128
_MOST_PIXELS = 1 << 26


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadOptions:
    """channels: 1 grey, 3 RGB. key: hashes the ids; this user's own by default.

    limits: what a file may cost; `max_seconds` is the watchdog's of a `ReaderPool`, per file, and covers the task.
    keep_outside: leave the pixels outside the sector as they are, and take the whole frame for the sector where none
        is found. Only for images that were never a patient's (the phantom): burned-in names stay in.
    decoder: of videos: "decord" or "decord-gpu" give the same frames as "pyav", or refuse.
    mask_HW: one's own sector, for files of its size as stored; files of another size are refused.
    labels: of a table of one's own, beside those that the source gives; where both have one the table's is taken.
    Raises EchofmError on a number of channels that no clip has.
    """

    channels: int = 1
    key: IdKey = field(default_factory=load_key)
    limits: Limits = field(default_factory=Limits)
    keep_outside: bool = False
    decoder: Decoder = "pyav"
    mask_HW: Mask | None = None
    labels: OwnLabels | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise EchofmError(f"channels={self.channels}: a clip has 1 (grey) or 3 (RGB)")

    def choices(self) -> tuple[str, ...]:
        """What decides which files are read and what of them is kept, where it is not the usual; for fingerprints."""
        limits = () if self.limits == Limits() else (repr(self.limits),)
        decoder = () if self.decoder == "pyav" else (self.decoder,)
        labels = () if self.labels is None else (self.labels.digest,)
        return (*limits, *decoder, *(() if self.mask_HW is None else (mask_sha256(self.mask_HW),)), *labels)


def mask_sha256(mask_HW: Mask) -> str:
    """Of a mask's size and pixels."""
    return hashlib.sha256(repr(mask_HW.shape).encode() + np.packbits(mask_HW).tobytes()).hexdigest()


def load_mask(path: str | os.PathLike[str] | None) -> Mask | None:
    """(H, W) whether a pixel of a PNG is white, of a grey below 128 black; None without a path.

    Raises EchofmError where it cannot be read, is no PNG, or has no white pixel.
    """
    from PIL import Image

    if path is None:
        return None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise EchofmError(f"--mask: {image.height} x {image.width} pixels are more than any echo has")
            mask_HW = np.asarray(image.convert("L")) >= _INSIDE
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, EchofmError):
            raise
        raise EchofmError("--mask: the file is not there or no PNG; draw the sector white on black") from None
    if not mask_HW.any():
        raise EchofmError("--mask: no pixel is white, so nothing would be kept; draw the sector white on black")
    return mask_HW
