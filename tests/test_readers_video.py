"""Videos: the decoded count, true times, cut files, one grey rule, and agreement with decord."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hearts import beating_heart, write_avi

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.ids import IdKey
from echofm.readers import Limits
from echofm.readers.luma import luma
from echofm.readers.video import decode_video

KEY = IdKey(b"0123456789abcdef")


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clip, _ = beating_heart(frames=30)
    return write_avi(tmp_path_factory.mktemp("video") / "Jane_Doe.avi", clip)


def test_a_clip_is_what_was_written(heart: Path) -> None:
    written, _ = beating_heart(frames=30)
    clip = read_clip(heart, key=KEY)
    assert clip.frames_TCHW.shape == (30, 1, 112, 112)
    difference = np.abs(clip.frames_TCHW[:, 0].astype(int) - written)[:, clip.sector_HW]
    assert difference.mean() < 3
    assert clip.frame_time_s == pytest.approx(np.arange(30) / 50)
    assert clip.frame_rate_hz == pytest.approx(50)
    assert clip.kind == "bmode"
    assert clip.patient_id == KEY.patient("Jane_Doe") and clip.clip_id != clip.patient_id


def test_the_id_follows_the_content_not_the_name(heart: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.avi"
    copy.write_bytes(heart.read_bytes())
    assert read_clip(copy, key=KEY).clip_id == read_clip(heart, key=KEY).clip_id


def test_colour_is_three_equal_channels_of_a_grey_clip(heart: Path) -> None:
    grey, colour = read_clip(heart, key=KEY), read_clip(heart, key=KEY, channels=3)
    assert colour.frames_TCHW.shape[1] == 3
    assert (colour.sector_HW == grey.sector_HW).all()
    assert np.abs(colour.frames_TCHW[:, 0].astype(int) - grey.frames_TCHW[:, 0]).max() <= 2


def test_luma_is_the_documented_formula() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    red, green, blue = (rgb[..., channel].astype(np.int64) for channel in range(3))
    assert (luma(rgb) == (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).all()
    every_grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    assert (luma(every_grey)[:, 0] == np.arange(256)).all()


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_cut_file_is_noticed(tmp_path: Path, suffix: str, part: float) -> None:
    clip, _ = beating_heart(frames=60)
    path = write_avi(tmp_path / f"x{suffix}", clip, codec="mjpeg" if suffix == ".avi" else "mpeg4")
    whole = path.read_bytes()
    assert len(read_clip(path).frames_TCHW) == 60
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UnreadableFile, match=r"cut|damaged|no frame"):
        read_clip(path)


def test_variable_frame_rate_gives_true_times(tmp_path: Path) -> None:
    clip, _ = beating_heart(frames=20)
    ticks = np.cumsum([0, *([20, 35] * 10)])[:20]
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.height, stream.width, stream.pix_fmt = 112, 112, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, tick in zip(clip, ticks):
            picture = av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")
            picture.pts, picture.time_base = int(tick), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert read_clip(path).frame_time_s == pytest.approx(ticks / 1000)


def test_a_rate_that_the_header_leaves_out_is_not_made_up(heart: Path, tmp_path: Path) -> None:
    content = heart.read_bytes()
    rate = content.index(b"vids") + 24
    (tmp_path / "x.avi").write_bytes(content[:rate] + bytes(4) + content[rate + 4 :])
    clip = read_clip(tmp_path / "x.avi")
    assert len(clip.frames_TCHW) == 30 and clip.frame_time_s is None and clip.frame_rate_hz is None


def test_inter_coded_frames_come_in_order(tmp_path: Path) -> None:
    written, _ = beating_heart(frames=40)
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=50, options={"bf": "2"})
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 112, 112, "yuv420p", 8_000_000
        for frame in written:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode())
    read = read_clip(path)
    ours, theirs = (frames[:, read.sector_HW].astype(int) for frames in (read.frames_TCHW[:, 0], written))
    errors = np.array([np.abs(ours - np.roll(theirs, shift, axis=0))[2:-2].mean() for shift in (0, 1, -1)])
    assert len(ours) == 40 and errors[0] < 0.8 * errors[1:].min()
    assert read.frame_time_s == pytest.approx(np.arange(40) / 50)


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("x.avi", "mjpeg", "yuvj420p"),
        ("x.mkv", "mjpeg", "yuvj444p"),
        ("x.mp4", "mpeg4", "yuv420p"),
        ("x.mov", "h264", "yuv420p"),
        ("x.mkv", "ffv1", "gray"),
        ("x.avi", "rawvideo", "gray"),
    ],
)
def test_black_is_0_and_white_255_whatever_range_is_stored(tmp_path: Path, name: str, codec: str, layout: str) -> None:
    chart = np.zeros((6, 64, 64), np.uint8)
    chart[:, :, 32:], chart[:, :16] = 255, 128
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=50)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 64, 64, layout, 8_000_000
        for frame in chart:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        container.mux(stream.encode())
    read = read_clip(path, keep_outside=True).frames_TCHW[:, 0]
    assert read.shape == chart.shape
    for place, value in (((40, 10), 0), ((40, 50), 255), ((8, 10), 128)):
        assert np.abs(read[(slice(None), *place)].astype(int) - value).max() <= 3


def test_odd_sizes_keep_every_row_and_column(tmp_path: Path) -> None:
    clip, _ = beating_heart(frames=20)
    read = read_clip(write_avi(tmp_path / "x.avi", clip[:, :111, :109]))
    assert read.frames_TCHW.shape == (20, 1, 111, 109)


def test_the_limit_is_checked_before_decoding(heart: Path) -> None:
    with pytest.raises(UnreadableFile, match="--max-clip-mb"):
        read_clip(heart, channels=3, limits=Limits(max_clip_mb=1))
    assert len(read_clip(heart, limits=Limits(max_clip_mb=1)).frames_TCHW) == 30  # it counts the channels asked for


def test_real_clips_equal_decord_and_keep_their_times(real_clips: Path) -> None:
    decord = pytest.importorskip("decord")
    for path in sorted(real_clips.glob("*.avi")):
        data = path.read_bytes()
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        theirs = reader.get_batch(range(len(reader))).asnumpy()
        ours = decode_video(io.BytesIO(data), container="avi", channels=3, limits=Limits())
        assert (np.moveaxis(ours.frames_TCHW, 1, 3) == theirs).all()
        times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        assert ours.frame_time_s == pytest.approx(times - times[0], abs=1e-6)
