"""AVI, MP4, MOV and MKV: every frame in order, its true time, and whether the file was cut.

PyAV decodes, not decord. On EchoNet-Dynamic's MJPG clips the frames are equal byte for byte (held by
`tests/test_readers_video.py`) and, with one kept reformatter, PyAV costs no more: 23.5 against 28.2 ms of CPU for a
clip of 200 frames of 112 x 112, 101 against 101 ms for 60 of 480 x 480. Of 15 clips cut short decord returned 8 with
fewer frames and no word, and one read from memory ended the process with a segmentation fault; it tells neither a
damaged packet nor a change of frame size, which PyAV does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.decoded import Decoded, gather
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.refused import Refused

if TYPE_CHECKING:
    import av.container


def container_format(head: bytes) -> str | None:
    """FFmpeg's name of the container by its first bytes; None where it is none of ours.

    The demuxer is named, never probed for: FFmpeg's playlist demuxers would open other files that a hostile one lists.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return None


def decode_video(source: BinaryIO, *, container: str, channels: int, limits: Limits) -> Decoded:
    """Decode a whole video. Refused where it is cut, damaged, empty, above the limits or changes its frame size."""
    import av

    av.logging.set_level(None)
    try:
        with av.open(source, mode="r", format=container) as opened:
            packets = _packets(opened)
            height, width = _frame_size(opened)
        limits.check_clip(frames=packets, height=height, width=width, channels=channels)
        times: list[float | None] = []
        source.seek(0)
        with av.open(source, mode="r", format=container) as opened:
            frames = _frames(opened, max_pixels=max(4 * height * width, 1_000_000), times=times)
            clip_TCHW, chroma_HW = gather(frames, at_most=packets, channels=channels)
    except av.FFmpegError:
        raise Refused("the video is damaged: it cannot be decoded to its end") from None
    told = container != "avi" or _avi_tells_its_rate(source)
    return Decoded(frames_TCHW=clip_TCHW, chroma_HW=chroma_HW, frame_time_s=_frame_times(times) if told else None)


def _packets(opened: av.container.InputContainer) -> int:
    """Frames that the file really holds, without decoding one; refused where the header claims more."""
    if not opened.streams.video:
        raise Refused("it holds no video stream")
    stream = opened.streams.video[0]
    count, end_s = 0, 0.0
    for packet in opened.demux(stream):
        if packet.is_corrupt:
            raise Refused(f"the video is cut or damaged: frame {count + 1} is incomplete")
        if packet.size:
            count += 1
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if count == 0:
        raise Refused("the video holds no frame")
    # One missing frame, or one in a hundred, is a sloppy writer; more is a cut file, and half a clip is not the clip.
    if stream.frames - count > max(1, stream.frames // 100):
        raise Refused(f"the video is cut: {count} of the {stream.frames} frames in its header are there")
    announced_s = 0.0 if stream.frames or opened.duration is None else opened.duration / 1e6
    if announced_s - end_s > max(0.1, announced_s / 100):
        raise Refused(f"the video is cut: {end_s:.1f} of the {announced_s:.1f} s in its header are there")
    return count


def _frame_size(opened: av.container.InputContainer) -> tuple[int, int]:
    context = opened.streams.video[0].codec_context
    if context is None:
        raise Refused("the video's codec is not known to FFmpeg")
    return context.height, context.width


def _frames(
    opened: av.container.InputContainer, *, max_pixels: int, times: list[float | None]
) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB frames (H, W, 3) in order; `times` receives each frame's time in seconds, None where it has none."""
    from av.video.reformatter import VideoReformatter

    stream = opened.streams.video[0]
    # One thread: the readers run in as many processes as there are cores.
    stream.codec_context.thread_count = 1
    # A frame far above the header's size is an error before it is allocated; FFmpeg's own padding counts as well.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    to_rgb = VideoReformatter()
    size: tuple[int, int] | None = None
    for number, frame in enumerate(opened.decode(stream), start=1):
        if frame.is_corrupt:
            raise Refused(f"the video is damaged at frame {number}")
        size = size or (frame.height, frame.width)
        if size != (frame.height, frame.width):
            raise Refused(f"the frame size changes at frame {number}")
        times.append(None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base))
        yield np.asarray(to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)


def _avi_tells_its_rate(source: BinaryIO) -> bool:
    """Whether the video's stream header has a rate; where it has none FFmpeg makes one up (25 a second)."""
    source.seek(0)
    header = source.read(65_536)
    start = header.find(b"vids", header.find(b"strh"))
    # AVISTREAMHEADER: dwScale and dwRate lie 20 bytes after fccType.
    scale_and_rate = header[start + 20 : start + 28]
    return start >= 0 and len(scale_and_rate) == 8 and all(struct.unpack("<LL", scale_and_rate))


def _frame_times(times: list[float | None]) -> npt.NDArray[np.float64] | None:
    """Seconds since the first frame, the file's own; None where they do not increase or the rate is a placeholder."""
    if None in times:
        return None
    time_s = np.asarray(times, np.float64)
    steps_s = np.diff(time_s)
    if not len(steps_s):
        return time_s - time_s[0]
    low_hz, high_hz = PLAUSIBLE_RATE_HZ
    plausible = (steps_s > 0).all() and low_hz <= 1 / np.median(steps_s) <= high_hz
    return time_s - time_s[0] if plausible else None
