"""PNG and JPEG stills (TMED-2): a clip of one frame."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np

from echofm.readers.decoded import Decoded, gather
from echofm.readers.greys import to_grey
from echofm.readers.limits import Limits
from echofm.readers.refused import Refused

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def is_still(head: bytes) -> bool:
    """Whether a file starts as PNG or JPEG."""
    return head.startswith(_SIGNATURES)


def decode_still(source: BinaryIO, *, channels: int, limits: Limits) -> Decoded:
    """Decode one image; transparency is dropped. Refused where it is damaged or above the limits."""
    from PIL import Image

    with warnings.catch_warnings():
        # Large images are judged by our limits.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            opened = Image.open(source, formats=("PNG", "JPEG"))
        except Image.DecompressionBombError:
            raise Refused("its header claims more pixels than any echo has") from None
        with opened as image:
            samples = 1 if image.mode in ("1", "L", "I;16", "I;16B", "I", "F") else 3
            limits.check_clip(frames=1, height=image.height, width=image.width, channels=channels)
            try:
                image.load()
            except (OSError, SyntaxError):
                raise Refused("the image is cut or damaged") from None
            if samples == 3 or image.mode == "1":
                picture = np.asarray(image.convert("RGB"))
            else:
                picture = to_grey(np.asarray(image)[None])[0]
    clip_TCHW, chroma_HW = gather(iter([picture]), at_most=1, channels=channels)
    return Decoded(frames_TCHW=clip_TCHW, chroma_HW=chroma_HW)
