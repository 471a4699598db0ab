"""Containers as recorders really write them: repeated frames, sound, reordered frames; and every cut file is told."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from broken_files import jpeg
from hearts import beating_heart

from echofm import read_clip
from echofm.errors import UnreadableFile
from echofm.readers import Limits
from echofm.readers.avi import shown_frames

HEART, _ = beating_heart(frames=30)
FRAMES = np.stack([np.asarray(frame) for frame in HEART])


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def avi(
    parts: Sequence[bytes], *, rate: int = 50, announced: int | None = None, index: bool = True, rec: bool = False
) -> bytes:
    """A motion-JPEG AVI of one chunk for each part; an empty one shows the frame before it again."""
    count = len(parts) if announced is None else announced
    main = struct.pack("<14I", 1_000_000 // rate, 0, 0, 0x10, count, 0, 1, 0, 112, 112, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<IHH8I4h", 0, 0, 0, 0, 1, rate, 0, count, 0, 0xFFFFFFFF, 0, 0, 0, 112, 112)
    form = struct.pack("<IiiHH4sIiiII", 40, 112, 112, 1, 24, b"MJPG", 112 * 112 * 3, 0, 0, 0, 0)
    head = b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    table, place = b"", 4
    for part in parts:
        table += b"00dc" + struct.pack("<III", 0x10 if part else 0, place, len(part))
        place += 8 + len(part) + len(part) % 2
    body = b"".join(chunk(b"00dc", part) for part in parts)
    movie = b"movi" + (chunk(b"LIST", b"rec " + body) if rec else body)
    return chunk(
        b"RIFF", b"AVI " + chunk(b"LIST", head) + chunk(b"LIST", movie) + (chunk(b"idx1", table) if index else b"")
    )


PARTS = [jpeg(np.repeat(frame[..., None], 3, 2)) for frame in FRAMES]


def with_empty(places: set[int]) -> list[bytes]:
    return [b"" if number in places else part for number, part in enumerate(PARTS)]


@pytest.mark.parametrize("rate", [25, 50])
@pytest.mark.parametrize(
    ("places", "index", "rec"),
    [({9, 19}, True, False), ({9, 19, 29}, True, False), ({5, 6, 7, 8}, True, False), ({28, 29}, True, False),
     ({9, 29}, False, False), ({3}, False, True)],
)  # fmt: skip
def test_an_empty_chunk_shows_the_frame_before_again(
    tmp_path: Path, places: set[int], index: bool, rec: bool, rate: int
) -> None:
    (tmp_path / "plain.avi").write_bytes(avi(PARTS, rate=rate))
    (tmp_path / "repeats.avi").write_bytes(avi(with_empty(places), rate=rate, index=index, rec=rec))
    plain, read = (
        read_clip(tmp_path / "plain.avi", keep_outside=True),
        read_clip(tmp_path / "repeats.avi", keep_outside=True),
    )
    shown = [max(seen for seen in range(number + 1) if seen not in places) for number in range(30)]
    assert (read.frames_TCHW == plain.frames_TCHW[shown]).all()
    assert read.frame_time_s == pytest.approx(np.arange(30) / rate) and read.frame_rate_hz == pytest.approx(rate)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_empty_chunks_before_the_first_frame_show_nothing(tmp_path: Path, count: int) -> None:
    (tmp_path / "plain.avi").write_bytes(avi(PARTS))
    (tmp_path / "late.avi").write_bytes(avi(with_empty(set(range(count)))))
    plain, late = (read_clip(tmp_path / name, keep_outside=True) for name in ("plain.avi", "late.avi"))
    assert (late.frames_TCHW == plain.frames_TCHW[count:]).all()
    assert late.frame_time_s == pytest.approx(np.arange(30 - count) / 50)
    (tmp_path / "cut.avi").write_bytes(avi(with_empty(set(range(count))), announced=60))
    with pytest.raises(UnreadableFile, match="of the 60 frames"):
        read_clip(tmp_path / "cut.avi")


@pytest.mark.parametrize("keep", [0.4, 0.7, 0.9])
def test_a_cut_avi_is_found_whether_or_not_frames_repeat(tmp_path: Path, keep: float) -> None:
    for places in (set(), {3, 4}):
        whole = avi(with_empty(places))
        (tmp_path / "cut.avi").write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(UnreadableFile, match=r"cut|incomplete|damaged"):
            read_clip(tmp_path / "cut.avi")


def test_a_header_that_claims_more_is_no_repetition(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(avi(PARTS, announced=60))
    with pytest.raises(UnreadableFile, match="30 of the 60 frames"):
        read_clip(tmp_path / "a.avi")


def test_repetition_counts_against_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(avi([PARTS[0], *[b""] * 5000]))
    with pytest.raises(UnreadableFile, match="--max-clip-mb"):
        read_clip(tmp_path / "a.avi", limits=Limits(max_clip_mb=10))


def test_chunks_are_walked_without_trust() -> None:
    for content in (b"", b"RIFF", b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffmovi00dc\xff\xff\xff\xff", bytes(100)):
        assert shown_frames(io.BytesIO(content), stream=0) == []


def video(
    path: Path,
    *,
    codec: str,
    options: dict[str, str] | None = None,
    sound_s: float = 0.0,
    sound: str = "aac",
    rate: int = 50,
) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=Fraction(rate), options=options or {})
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 112, 112, "yuv420p", 6_000_000
        track = None
        if sound_s:
            track = file.add_stream(sound, rate=48000)
            track.layout = "mono"
        for frame in FRAMES:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), format="rgb24")))
        file.mux(stream.encode())
        if track is not None:
            form = "fltp" if sound == "aac" else "s16"
            kind = np.float32 if sound == "aac" else np.int16
            for start in range(0, int(48000 * sound_s), 960):
                part = av.AudioFrame.from_ndarray(np.zeros((1, 960), kind), format=form, layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
                file.mux(track.encode(part))
            file.mux(track.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "options"), [("h264", {"bf": "2"}), ("h264", {"bf": "0"}), ("h264", {"bf": "3"}), ("mpeg4", {})]
)
@pytest.mark.parametrize("rate", [25, 50, 83])
def test_an_avi_has_its_headers_rate_whatever_the_codec(
    tmp_path: Path, codec: str, options: dict[str, str], rate: int
) -> None:
    clip = read_clip(video(tmp_path / "a.avi", codec=codec, options=options, rate=rate))
    assert clip.frame_time_s == pytest.approx(np.arange(30) / rate)
    assert np.abs(clip.frames_TCHW[:, 0].astype(float) - FRAMES)[:, clip.sector_HW].mean() < 12  # and in order


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.mkv", "h264", "aac"),
        ("a.mkv", "mpeg4", "pcm_s16le"),
        ("a.webm", "libvpx", "libopus"),
        ("a.mp4", "h264", "aac"),
    ],
)
@pytest.mark.parametrize("seconds", [0.2, 0.6, 3.0])
def test_sound_may_be_longer_or_shorter_than_the_pictures(
    tmp_path: Path, name: str, codec: str, sound: str, seconds: float
) -> None:
    clip = read_clip(video(tmp_path / name, codec=codec, sound=sound, sound_s=seconds))
    assert len(clip.frames_TCHW) == 30 and clip.frame_rate_hz == pytest.approx(50, rel=0.02)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_a_cut_matroska_is_found_with_and_without_sound(tmp_path: Path, name: str, seconds: float) -> None:
    codec, sound = ("libvpx", "libopus") if name.endswith("webm") else ("mpeg4", "aac")
    path = video(tmp_path / name, codec=codec, sound=sound, sound_s=seconds)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"cut|incomplete|damaged"):
        read_clip(path)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.avi", "mjpeg", {}), ("a.mp4", "h264", {"bf": "2"}), ("a.mkv", "mpeg4", {}), ("a.avi", "h264", {"bf": "0"})],
)
def test_decord_gives_the_same_frames_and_times(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    pytest.importorskip("decord")
    path = tmp_path / name
    if codec == "mjpeg":
        path.write_bytes(avi(PARTS))
    else:
        video(path, codec=codec, options=options)
    ours, theirs = read_clip(path), read_clip(path, decoder="decord")
    assert (ours.frames_TCHW == theirs.frames_TCHW).all() and ours.clip_id == theirs.clip_id
    assert ours.frame_time_s == pytest.approx(theirs.frame_time_s)


def test_decord_is_not_turned_twice_and_repeats_as_the_file_says(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = video(tmp_path / "a.mp4", codec="h264")
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    for a, b, c, d in ((0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)):
        content[at : at + 36] = struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
        path.write_bytes(content)
        ours = read_clip(path, keep_outside=True).frames_TCHW
        assert (read_clip(path, keep_outside=True, decoder="decord").frames_TCHW == ours).all()
    (tmp_path / "b.avi").write_bytes(avi(with_empty({9, 29})))
    ours = read_clip(tmp_path / "b.avi", keep_outside=True).frames_TCHW
    assert (read_clip(tmp_path / "b.avi", keep_outside=True, decoder="decord").frames_TCHW == ours).all()


def test_what_decord_cannot_do_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.avi").write_bytes(avi(PARTS))
    decord = pytest.importorskip("decord")
    if not getattr(decord, "has_gpu", False):
        with pytest.raises(UnreadableFile, match="decord cannot decode it on a GPU"):
            read_clip(tmp_path / "a.avi", decoder="decord-gpu")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UnreadableFile, match="decord is not installed"):
        read_clip(tmp_path / "a.avi", decoder="decord")


def test_other_frames_than_the_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decord = pytest.importorskip("decord")
    (tmp_path / "a.avi").write_bytes(avi(PARTS))
    whole = decord.VideoReader

    class Fewer(whole):
        def __len__(self) -> int:
            return 29

    class Dark(whole):
        def get_batch(self, indices: range) -> object:
            dark = 255 - whole.get_batch(self, indices).asnumpy()
            return SimpleNamespace(asnumpy=lambda: dark)

    for fault, words in ((Fewer, "29 of its 30 frames"), (Dark, "another frame")):
        monkeypatch.setattr(decord, "VideoReader", fault)
        with pytest.raises(UnreadableFile, match=words):
            read_clip(tmp_path / "a.avi", decoder="decord")


def streamed(frames: np.ndarray, *, form: str, codec: str) -> bytes:
    """As a recorder writes that cannot go back: neither duration nor sizes in its header."""

    class Pipe(io.RawIOBase):
        data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, part: object) -> int:
            self.data += bytes(part)  # type: ignore[call-overload]
            return len(bytes(part))  # type: ignore[call-overload]

    pipe = Pipe()
    pipe.data = bytearray()
    with av.open(pipe, "w", format=form) as container:  # type: ignore[call-overload]
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 112, 112, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return bytes(pipe.data)


@pytest.mark.parametrize(("form", "codec"), [("matroska", "mjpeg"), ("webm", "libvpx")])
def test_a_matroska_without_duration_that_is_cut_is_refused(tmp_path: Path, form: str, codec: str) -> None:
    content = streamed(HEART, form=form, codec=codec)
    path = tmp_path / "a.mkv"
    path.write_bytes(content)
    with av.open(str(path)) as opened:
        assert opened.duration is None
    assert len(read_clip(path, keep_outside=True).frames_TCHW) == 30
    for part in (0.3, 0.55, 0.9, 0.999):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(UnreadableFile, match=r"cut|damaged|no frame"):
            read_clip(path, keep_outside=True)
