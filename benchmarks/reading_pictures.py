"""The pictures of docs/reading.md: `python -m benchmarks.reading_pictures`. Of pydicom's open files; no patient's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file

from echofm import read_clip
from echofm.readers.limits import Limits
from echofm.readers.square import squared

Picture = npt.NDArray[np.uint8]
OUT = Path(__file__).parents[1] / "docs" / "img"
HEIGHT, CAPTION, GAP = 150, 18, 6


def main() -> None:
    """Write the three strips."""
    from echofm.readers.dicom import decode_dicom

    heart, node = (Path(str(get_testdata_file(name))) for name in ("color3d_jpeg_baseline.dcm", "US1_UNCR.dcm"))
    with heart.open("rb") as file, node.open("rb") as other:
        screen = np.moveaxis(decode_dicom(file, channels=3, limits=Limits()).frames_TCHW, 1, 3)
        linear = np.moveaxis(decode_dicom(other, channels=3, limits=Limits()).frames_TCHW, 1, 3)[0]
    clip = read_clip(heart, channels=3)
    kept = np.moveaxis(clip.frames_TCHW, 1, 3)
    edge = clip.sector_HW & ~np.roll(clip.sector_HW, 2, 0) | clip.sector_HW & ~np.roll(clip.sector_HW, -2, 0)
    edge |= clip.sector_HW & ~np.roll(clip.sector_HW, 2, 1) | clip.sector_HW & ~np.roll(clip.sector_HW, -2, 1)
    outlined = kept[0].copy()
    outlined[edge] = (255, 176, 0)
    strip("reading_sector.png", {"as stored": screen[0], "kept, with its outline": outlined})
    strip(
        "reading_kinds.png",
        {
            "bmode": kept[0],
            "colour_doppler": _with_flow(kept[0]),
            "spectral": _trace(),
            "m_mode": np.ascontiguousarray(kept[:, 60:400, 300].swapaxes(0, 1)),
            "volume: slices": np.concatenate([np.concatenate(kept[[0, 20]], 1), np.concatenate(kept[[40, 60]], 1)]),
            # Without the words above and below it.
            "linear_array": np.ascontiguousarray(linear[148:336, :322]),
        },
    )
    strip("reading_geometry.png", _geometry(kept[:1]))


def _with_flow(frame: Picture) -> Picture:
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    shown, grain = frame.copy(), np.random.default_rng(0).integers(110, 255, frame.shape[:2])
    inside = (np.abs(columns - 325) < 42 - (rows - 170) / 6) & (np.abs(rows - 230) < 62)
    towards, away = (grain, grain // 4, grain // 9), (grain // 9, grain // 3, grain)
    shown[inside] = np.where((rows < 235)[..., None], np.stack(towards, 2), np.stack(away, 2))[inside]
    return shown


def _trace() -> Picture:
    random, trace = np.random.default_rng(1), np.zeros((240, 320, 3), np.uint8)
    for column in range(320):
        top = 200 - int(130 * abs(np.sin(column / 32)) ** 3)
        trace[top:200, column] = random.integers(60, 220, (200 - top, 1))
    return trace


def _geometry(frames_THWC: Picture) -> dict[str, Picture]:
    from echofm.readers.decoded import Decoded
    from echofm.readers.turn import by_matrix

    wide = np.ascontiguousarray(np.moveaxis(frames_THWC, 3, 1)[..., ::2])
    square = squared(Decoded(frames_TCHW=wide, pixel_aspect=2.0), limits=Limits())
    turned = np.ascontiguousarray(np.rot90(frames_THWC[0]))
    return {
        "stored wide": np.moveaxis(wide[0], 0, 2),
        "read square": np.moveaxis(square.frames_TCHW[0], 0, 2),
        "stored turned": turned,
        "read upright": by_matrix(0, 1, -1, 0).of(turned),
    }


def strip(name: str, pictures: dict[str, Picture]) -> None:
    """Pictures side by side at one height, each with its caption below."""
    tiles = []
    for caption, picture in pictures.items():
        tile = Image.fromarray(picture).convert("RGB")
        tile = tile.resize((max(80, round(HEIGHT * tile.width / tile.height)), HEIGHT))
        framed = Image.new("RGB", (tile.width, HEIGHT + CAPTION), "white")
        framed.paste(tile)
        ImageDraw.Draw(framed).text((2, HEIGHT + 3), caption, fill="black")
        tiles.append(framed)
    whole = Image.new("RGB", (sum(tile.width + GAP for tile in tiles) - GAP, HEIGHT + CAPTION), "white")
    at = 0
    for tile in tiles:
        whole.paste(tile, (at, 0))
        at += tile.width + GAP
    whole.quantize(256).save(OUT / name, optimize=True)


if __name__ == "__main__":
    main()
