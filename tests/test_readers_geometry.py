"""A heart has its true shape and stands upright, whatever the spacing and the turn at which a file stores it."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from broken_files import dicom
from hearts import beating_heart
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset

from echofm import Clip, read_clip
from echofm.errors import UnreadableFile
from echofm.readers import Limits, read_row
from echofm.readers.decoded import Decoded, Region
from echofm.readers.source import Row
from echofm.readers.square import squared
from echofm.readers.turn import Turn, by_matrix

HEART, _ = beating_heart(frames=10, size=128)
WIDE, TALL = np.ascontiguousarray(HEART[:, :, ::2]), np.ascontiguousarray(HEART[:, ::2])
Frames = npt.NDArray[np.uint8]


def region(delta_y: float, delta_x: float, shape: tuple[int, ...]) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType = 1, 1
    made.RegionLocationMinX0 = made.RegionLocationMinY0 = 0
    made.RegionLocationMaxY1, made.RegionLocationMaxX1 = shape[0] - 1, shape[1] - 1
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
    made.PhysicalDeltaY, made.PhysicalDeltaX = delta_y, delta_x
    return made


def ultrasound(frames: Frames, **tags: object) -> bytes:
    shape = {"NumberOfFrames": len(frames), "Rows": frames.shape[1], "Columns": frames.shape[2]}
    return dicom(pixels=frames.tobytes(), **shape, **tags)


def nifti(frames: Frames, zooms: tuple[float, float], unit: str) -> bytes:
    image = nibabel.Nifti1Image(np.ascontiguousarray(frames.transpose(2, 1, 0)), np.eye(4))
    image.header.set_zooms((*zooms, 1.0))
    image.header.set_xyzt_units(unit, "sec")
    return image.to_bytes()


def video(
    path: Path, frames: Frames, *, codec: str = "mpeg4", aspect: Fraction | None = None, rotate: str = ""
) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=50)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotate:
            stream.metadata["rotate"] = rotate
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        file.mux(stream.encode())
    return path


def assert_is_the_heart(clip: Clip, within: float = 8.0) -> None:
    assert clip.frames_TCHW.shape == (10, 1, 128, 128)
    inside = clip.sector_HW
    assert inside.mean() > 0.4
    assert np.abs(clip.frames_TCHW[:, 0].astype(float) - HEART)[:, inside].mean() < within


DICOMS = {
    "region, wide": ultrasound(WIDE, SequenceOfUltrasoundRegions=[region(0.02, 0.04, WIDE.shape[1:])]),
    "region, tall": ultrasound(TALL, SequenceOfUltrasoundRegions=[region(-0.04, 0.02, TALL.shape[1:])]),
    "pixel spacing": ultrasound(WIDE, PixelSpacing=[0.2, 0.4]),
    "pixel aspect ratio, wide": ultrasound(WIDE, PixelAspectRatio=[1, 2]),
    "pixel aspect ratio, tall": ultrasound(TALL, PixelAspectRatio=[2, 1]),
}


@pytest.mark.parametrize("name", DICOMS)
def test_dicom(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.dcm").write_bytes(DICOMS[name])
    clip = read_clip(tmp_path / "a.dcm")
    assert_is_the_heart(clip)
    if clip.pixel_spacing_mm is not None:
        assert clip.pixel_spacing_mm == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_nifti(tmp_path: Path, unit: str) -> None:
    for frames, zooms in ((WIDE, (0.4, 0.2)), (TALL, (0.2, 0.4))):
        (tmp_path / "a.nii").write_bytes(nifti(frames, zooms, unit))
        assert_is_the_heart(read_clip(tmp_path / "a.nii"))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.mov", "h264"), ("a.avi", "mpeg4")],
)
def test_the_sample_aspect_ratio_of_videos(tmp_path: Path, name: str, codec: str) -> None:
    for frames, aspect in ((WIDE, Fraction(2)), (TALL, Fraction(1, 2))):
        assert_is_the_heart(read_clip(video(tmp_path / name, frames, codec=codec, aspect=aspect)))


def test_the_density_of_stills(tmp_path: Path) -> None:
    heart = Image.fromarray(HEART[0])
    wide = Image.fromarray(WIDE[0])
    wide.save(tmp_path / "a.png", dpi=(72, 144))
    wide.save(tmp_path / "a.jpg", dpi=(72, 144), quality=95)
    heart.save(tmp_path / "b.png", dpi=(72, 72), pnginfo=PngInfo())
    assert read_clip(tmp_path / "a.png", keep_outside=True).frames_TCHW.shape == (1, 1, 128, 128)
    assert read_clip(tmp_path / "a.jpg", keep_outside=True).frames_TCHW.shape == (1, 1, 128, 128)
    assert (read_clip(tmp_path / "b.png", keep_outside=True).frames_TCHW[0, 0] == HEART[0]).all()


def test_square_pixels_are_not_touched_and_an_absurd_spacing_is_not_believed(tmp_path: Path) -> None:
    for spacing in ([0.2, 0.2], [0.2, 0.203], [0.2, 20]):
        (tmp_path / "a.dcm").write_bytes(ultrasound(HEART, PixelSpacing=spacing))
        clip = read_clip(tmp_path / "a.dcm", keep_outside=True)
        assert (clip.frames_TCHW[:, 0] == HEART).all()
        assert clip.pixel_spacing_mm == (None if spacing[1] == 20 else tuple(spacing))


def test_regions_colour_and_limits_follow() -> None:
    box = Region(top=10, left=5, bottom=100, right=60, spatial_format=1, data_type=1)
    decoded = Decoded(frames_TCHW=WIDE[:, None], chroma_HW=WIDE[0], pixel_spacing_mm=(0.2, 0.4), regions=(box,))
    done = squared(decoded, limits=Limits())
    assert done.regions == (replace(box, left=10, right=120),) and done.pixel_spacing_mm == (0.2, 0.2)
    assert done.chroma_HW is not None and done.chroma_HW.shape == (128, 128)
    with pytest.raises(Exception, match="--max-clip-mb"):
        squared(decoded, limits=Limits(max_clip_mb=WIDE.size * 1.5 / 1e6))


def mask_left(clip: Clip) -> Clip:
    """Truth at the size at which the file is stored: the left half of the picture."""
    mask = np.zeros((len(clip.frames_TCHW), *clip.sector_HW.shape), np.uint8)
    assert mask.shape[1:] == (128, 64)
    mask[:, :, :32] = 1
    return clip.replace(mask_THW=mask, frame_time_s=np.arange(10) / 40)


def test_truth_is_put_on_at_the_stored_size(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti(WIDE, (0.4, 0.2), "mm"))
    clip = read_row(Row(path=tmp_path / "a.nii", patient="p", add_truth=mask_left, labels={"ef_percent": 50}))
    assert_is_the_heart(clip)
    assert clip.mask_THW is not None and clip.mask_THW.shape == (10, 128, 128)
    assert clip.mask_THW[:, :, :64].all() and not clip.mask_THW[:, :, 64:].any()
    assert clip.frame_rate_hz == pytest.approx(40) and clip.labels == {"ef_percent": 50}


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(content)
    return path


TURNS = {
    (1, 0, 0, 1): HEART,
    (0, 1, -1, 0): np.rot90(HEART, 1, (1, 2)),
    (-1, 0, 0, -1): np.rot90(HEART, 2, (1, 2)),
    (0, -1, 1, 0): np.rot90(HEART, 3, (1, 2)),
    (-1, 0, 0, 1): HEART[:, :, ::-1],
    (1, 0, 0, -1): HEART[:, ::-1],
    (0, 1, 1, 0): HEART.swapaxes(1, 2),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("matrix", TURNS, ids=str)
def test_a_video_stands_as_its_matrix_says(tmp_path: Path, matrix: tuple[int, int, int, int], suffix: str) -> None:
    path = video(tmp_path / f"a{suffix}", np.ascontiguousarray(TURNS[matrix]))
    assert_is_the_heart(read_clip(with_matrix(path, *matrix)))


def test_a_turned_video_of_wide_pixels(tmp_path: Path) -> None:
    """The aspect is that of the stored picture: turned by a quarter, its wide pixels are high."""
    stored = np.ascontiguousarray(np.rot90(TALL, 1, (1, 2)))
    path = video(tmp_path / "a.mp4", stored, aspect=Fraction(2))
    assert_is_the_heart(read_clip(with_matrix(path, 0, 1, -1, 0)))


@pytest.mark.parametrize(("degrees", "quarters"), [("90", 1), ("180", 2), ("270", 3), ("-90", 3), ("0", 0), ("x", 0)])
def test_a_video_stands_as_its_tag_says(tmp_path: Path, degrees: str, quarters: int) -> None:
    stored = np.ascontiguousarray(np.rot90(HEART, quarters, (1, 2)))
    assert_is_the_heart(read_clip(video(tmp_path / "a.mkv", stored, rotate=degrees)))


def test_a_photograph_of_the_screen_stands_as_its_exif_says() -> None:
    for value, matrix in (
        (6, (0, 1, -1, 0)),
        (3, (-1, 0, 0, -1)),
        (8, (0, -1, 1, 0)),
        (2, (-1, 0, 0, 1)),
        (5, (0, 1, 1, 0)),
    ):
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[274] = value
        Image.fromarray(HEART[0][:, :100]).save(buffer, "PNG", exif=exif)
        from echofm.readers.still import decode_still

        theirs = np.asarray(
            __import__("PIL.ImageOps").ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
        )
        ours = decode_still(io.BytesIO(buffer.getvalue()), channels=1, limits=Limits()).frames_TCHW[0, 0]
        assert ours.shape == theirs.shape and (ours == theirs).all()
        assert (by_matrix(*matrix).of(HEART[0][:, :100, None])[..., 0] == theirs).all()


def test_an_odd_angle_counts_as_the_nearest_quarter() -> None:
    assert by_matrix(60000, 2000, -2000, 60000) == Turn()
    assert by_matrix(2000, 60000, -60000, 2000) == by_matrix(0, 1, -1, 0)


def test_a_clip_that_grows_past_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(DICOMS["pixel spacing"])
    with pytest.raises(UnreadableFile, match="--max-clip-mb"):
        read_clip(tmp_path / "a.dcm", limits=Limits(max_clip_mb=WIDE.size * 1.5 / 1e6))
