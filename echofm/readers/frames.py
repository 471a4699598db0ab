"""Pictures as clips: an animated GIF, and a folder of JPEG or PNG frames that are numbered in a row."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, gather
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.opening import open_plain
from echofm.readers.refused import Refused
from echofm.readers.still import decode_still
from echofm.readers.suffixes import STILL

# Fewer pictures in a row are stills that someone numbered.
_FEWEST = 5
# Pairs of neighbours looked at, at what size, and by how much they may differ: part of their brightness, a choice that
# was not measured on real folders.
_PAIRS, _SIDE, _ALIKE, _MOST_PIXELS = 4, 32, 0.2, 16_000_000


def is_gif(head: bytes) -> bool:
    """Whether a file starts as GIF does."""
    return head.startswith((b"GIF87a", b"GIF89a"))


def decode_gif(source: BinaryIO, *, channels: int, limits: Limits) -> Decoded:
    """Decode every frame of a GIF; its times are the sums of its durations, none where one is not told."""
    from PIL import Image

    steps_s: list[float] = []
    try:
        with Image.open(source, formats=("GIF",)) as image:
            # Counting goes through the whole file.
            count = getattr(image, "n_frames", 1)
            limits.check_clip(frames=count, height=image.height, width=image.width, channels=channels)
            clip_TCHW, chroma_HW = gather(_gif_frames(image, count, steps_s), at_most=count, channels=channels)
    except (OSError, EOFError, SyntaxError, IndexError, ValueError, struct.error):
        raise Refused("the GIF is cut or damaged") from None
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    is_known = count > 1 and all(1 / high_hz <= step <= 1 / low_hz for step in steps_s)
    times = np.concatenate([[0.0], np.cumsum(steps_s[:-1])]) if is_known else None
    return Decoded(frames_TCHW=clip_TCHW, chroma_HW=chroma_HW, frame_time_s=times)


def _gif_frames(image: object, count: int, steps_s: list[float]) -> Iterator[npt.NDArray[np.uint8]]:
    from PIL import Image

    assert isinstance(image, Image.Image)
    for number in range(count):
        image.seek(number)
        steps_s.append(float(image.info.get("duration") or 0) / 1000)
        yield np.asarray(image.convert("RGB"))


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers; none where they are not one row, or there is more in it.

    One row: five or more JPEG or PNG files, named alike but for a number that goes up by one.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []
    numbered: dict[int, str] = {}
    forms = set()
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)(\.[A-Za-z]+)", name, flags=re.DOTALL)
        if match is None or match[3].lower() not in STILL:
            return []
        numbered[int(match[2])] = name
        forms.add((match[1], match[3]))
    numbers = sorted(numbered)
    in_a_row = len(numbers) == len(names) >= _FEWEST and numbers[-1] - numbers[0] == len(numbers) - 1
    return [folder / numbered[number] for number in numbers] if in_a_row and len(forms) == 1 else []


def is_one_clip(files: list[Path]) -> bool:
    """Whether two or more numbered pictures show one recording: of one size, neighbours alike."""
    first = np.linspace(0, len(files) - 2, min(_PAIRS, len(files) - 1)).astype(int).tolist()
    small = [(_small(files[at]), _small(files[at + 1])) for at in first]
    differences = []
    for one, other in small:
        if one is None or other is None or one[0] != other[0]:
            return False
        brightness = float(np.maximum(one[1], other[1]).mean())
        differences.append(float(np.abs(one[1] - other[1]).mean()) / max(brightness, 1.0))
    return bool(differences) and float(np.median(differences)) < _ALIKE


def _small(path: Path) -> tuple[tuple[int, int], npt.NDArray[np.float32]] | None:
    from PIL import Image

    try:
        with open_plain(path) as file, Image.open(file, formats=("PNG", "JPEG")) as image:
            size = image.size
            if size[0] * size[1] > _MOST_PIXELS:
                return None
            return size, np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    except Exception:
        # Whatever is wrong with it, its reader says so.
        return None


def _picture(file: BinaryIO, number: int, limits: Limits) -> npt.NDArray[np.uint8]:
    try:
        return decode_still(file, channels=3, limits=limits).frames_TCHW[0]
    except (Refused, MemoryError, RecursionError):
        raise
    except Exception:
        raise Refused(f"frame {number} is damaged or no JPEG or PNG") from None


def decode_frames(files: list[Path], *, channels: int, limits: Limits) -> tuple[bytes, Decoded]:
    """SHA-256 over the pictures' own, and the clip; its rate is not told. Refused where one cannot be read."""
    digest = hashlib.sha256()

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for number, path in enumerate(files, start=1):
            with open_plain(path) as file:
                limits.check_file(os.fstat(file.fileno()).st_size)
                digest.update(hashlib.sha256(file.read()).digest())
                file.seek(0)
                picture = _picture(file, number, limits)
            if number == 1:
                limits.check_clip(frames=len(files), height=picture.shape[1], width=picture.shape[2], channels=channels)
            yield np.moveaxis(picture, 0, 2)

    clip_TCHW, chroma_HW = gather(frames(), at_most=len(files), channels=channels)
    return digest.digest(), Decoded(frames_TCHW=clip_TCHW, chroma_HW=chroma_HW)
