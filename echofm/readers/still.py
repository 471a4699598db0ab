"""PNG and JPEG stills (TMED-2): a clip of one frame."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from echofm.readers.decoded import Decoded, gather
from echofm.readers.greys import to_grey
from echofm.readers.limits import Limits
from echofm.readers.refused import Refused
from echofm.readers.turn import Turn, by_matrix

if TYPE_CHECKING:
    from PIL import Image

_EXIF_ORIENTATION = 274
_EXIF_MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
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
            turn, aspect = _orientation(image), _pixel_aspect(image)
    clip_TCHW, chroma_HW = gather(iter([turn.of(picture)]), at_most=1, channels=channels)
    aspect = 1 / aspect if turn.is_swapped else aspect
    return Decoded(frames_TCHW=clip_TCHW, chroma_HW=chroma_HW, pixel_aspect=aspect)


def _orientation(image: Image.Image) -> Turn:
    """By the EXIF tag (JEITA CP-3451, 4.6.4): 1 to 4 as stored, 5 to 8 with rows and columns exchanged."""
    value = image.getexif().get(_EXIF_ORIENTATION)
    return by_matrix(*_EXIF_MATRICES.get(value if isinstance(value, int) else 1, _EXIF_MATRICES[1]))


def _pixel_aspect(image: Image.Image) -> float:
    """A pixel's width by its height, by the densities across and down that JPEG and PNG may tell."""
    density = image.info.get("jfif_density") or image.info.get("aspect") or image.info.get("dpi") or (1, 1)
    across, down = (float(each) for each in density)
    return down / across if across > 0 and down > 0 else 1.0
