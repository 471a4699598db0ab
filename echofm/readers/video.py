"""AVI, MP4, MOV and MKV: every frame in order, its true time, and whether the file was cut.

PyAV decodes, not decord. On EchoNet-Dynamic's MJPG clips the frames are equal byte for byte (held by
`tests/test_readers_video.py`) and, with one kept reformatter, PyAV costs no more: 23.5 against 28.2 ms of CPU for a
clip of 200 frames of 112 x 112, 101 against 101 ms for 60 of 480 x 480. Of 15 clips cut short decord returned 8 with
fewer frames and no word, and one read from memory ended the process with a segmentation fault; it tells neither a
damaged packet nor a change of frame size, which PyAV does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from echofm.readers.avi import has_rate, shown_frames
from echofm.readers.decoded import Decoded, gather
from echofm.readers.decord_video import Decoder, decord_frames
from echofm.readers.limits import PLAUSIBLE_RATE_HZ, Limits
from echofm.readers.matroska import ends_whole
from echofm.readers.refused import Refused
from echofm.readers.turn import Turn, turn_of

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


def decode_video(
    source: BinaryIO, *, container: str, channels: int, limits: Limits, decoder: Decoder = "pyav"
) -> Decoded:
    """Decode a whole video. Refused where it is cut, damaged, empty, above the limits or changes its frame size."""
    import av

    av.logging.set_level(None)
    try:
        with av.open(source, mode="r", format=container) as opened:
            facts = _facts(opened)
        # Whose chunks are fewer than its frames may repeat some by empty ones.
        shown = shown_frames(source, stream=facts.index) if container == "avi" and facts.is_incomplete else []
        _check_complete(facts, len(shown))
        if container == "matroska" and not facts.announced_s and not ends_whole(source):
            raise Refused("the video is cut: it ends within a block, and does not tell its duration")
        shown = [frame for frame in shown if frame >= 0]
        frame_count = max(facts.packets, len(shown))
        limits.check_clip(frames=frame_count, height=facts.height, width=facts.width, channels=channels)
        times: list[float | None] = []
        source.seek(0)
        with av.open(source, mode="r", format=container) as opened:
            frames = _frames(opened, facts=facts, times=times)
            pictures: Iterator[npt.NDArray[np.uint8]]
            if decoder == "pyav":
                pictures = (facts.turn.of(frame) for frame in frames)
            else:
                pictures = _by_decord(source, next(frames), facts=facts, decoder=decoder)
            clip_TCHW, chroma_HW = gather(pictures, at_most=facts.packets, channels=channels)
        if decoder != "pyav":
            known = sorted(tick for tick in facts.ticks if tick is not None)
            times = [float(tick * facts.time_base) for tick in known] if len(known) == facts.packets else [None]
    except av.FFmpegError:
        raise Refused("the video is damaged: it cannot be decoded to its end") from None
    if container == "avi":
        repeats = bool(shown) and shown[-1] == len(clip_TCHW) - 1 and len(shown) > len(clip_TCHW)
        clip_TCHW = clip_TCHW[shown] if repeats else clip_TCHW
        times = _avi_times(source, [] if repeats else times, len(clip_TCHW), facts.time_base)
    return Decoded(
        frames_TCHW=clip_TCHW,
        chroma_HW=chroma_HW,
        frame_time_s=_frame_times(times),
        pixel_aspect=facts.pixel_aspect,
    )


@dataclass(kw_only=True)
class _Facts:
    """What the container tells without decoding. announced: frames by its header, 0 where it does not count them.

    end_s: when the last packet of any stream ends; announced_s: when by the header, 0 where it counts frames.
    is_incomplete: whether frames are missing among the packets, by the header or by their ticks.
    """

    index: int
    packets: int
    announced: int
    is_incomplete: bool
    end_s: float
    announced_s: float
    height: int
    width: int
    time_base: Fraction
    pixel_aspect: float
    ticks: list[int | None]
    turn: Turn = Turn()  # noqa: RUF009 (frozen)


def _facts(opened: av.container.InputContainer) -> _Facts:
    if not opened.streams.video:
        raise Refused("it holds no video stream")
    stream = opened.streams.video[0]
    height, width = _frame_size(opened)
    count, last_dts = 0, -1
    ticks: list[int | None] = []
    ends: dict[Fraction, int] = {}
    # Of every stream: sound that goes on after the pictures tells that the file is whole.
    for packet in opened.demux():
        if packet.stream is stream and packet.is_corrupt:
            raise Refused(f"the video is cut or damaged: frame {count + 1} is incomplete")
        if packet.size and packet.pts is not None and packet.time_base is not None:
            end = packet.pts + (packet.duration or 0)
            if end > ends.get(packet.time_base, 0):
                ends[packet.time_base] = end
        if packet.size and packet.stream is stream:
            count += 1
            ticks.append(packet.pts)
            last_dts = max(last_dts, -1 if packet.dts is None else packet.dts)
    if count == 0:
        raise Refused("the video holds no frame")
    aspect = stream.sample_aspect_ratio
    return _Facts(
        index=stream.index,
        packets=count,
        announced=stream.frames,
        is_incomplete=stream.frames > count or last_dts >= count,
        end_s=max((float(tick * base) for base, tick in ends.items()), default=0.0),
        announced_s=0.0 if stream.frames or opened.duration is None else opened.duration / 1e6,
        height=height,
        width=width,
        time_base=stream.time_base or Fraction(0),
        pixel_aspect=float(aspect) if aspect else 1.0,
        ticks=ticks,
    )


def _check_complete(facts: _Facts, shown: int) -> None:
    """Refuse a cut file. shown: frames with those that an AVI repeats, 0 where it repeats none."""
    # One missing frame, or one in a hundred, is a sloppy writer; more is a cut file, and half a clip is not the clip.
    count = max(facts.packets, shown)
    if facts.announced - count > max(1, facts.announced // 100):
        raise Refused(f"the video is cut: {count} of the {facts.announced} frames in its header are there")
    if facts.announced_s - facts.end_s > max(0.1, facts.announced_s / 100):
        raise Refused(f"the video is cut: {facts.end_s:.1f} of the {facts.announced_s:.1f} s in its header are there")


def _frame_size(opened: av.container.InputContainer) -> tuple[int, int]:
    context = opened.streams.video[0].codec_context
    if context is None:
        raise Refused("the video's codec is not known to FFmpeg")
    return context.height, context.width


def _frames(
    opened: av.container.InputContainer, *, facts: _Facts, times: list[float | None]
) -> Iterator[npt.NDArray[np.uint8]]:
    """RGB frames (H, W, 3) in order, as stored; `times` receives each frame's time in seconds or None."""
    from av.video.reformatter import VideoReformatter

    stream = opened.streams.video[0]
    # One thread: the readers run in as many processes as there are cores.
    stream.codec_context.thread_count = 1
    # A frame far above the header's size is an error before it is allocated; FFmpeg's own padding counts as well.
    stream.codec_context.options = {"max_pixels": str(max(4 * facts.height * facts.width, 1_000_000))}
    to_rgb = VideoReformatter()
    size: tuple[int, int] | None = None
    for number, frame in enumerate(opened.decode(stream), start=1):
        if frame.is_corrupt:
            raise Refused(f"the video is damaged at frame {number}")
        if size is None:
            size, facts.turn = (frame.height, frame.width), turn_of(frame, stream.metadata)
            facts.pixel_aspect = 1 / facts.pixel_aspect if facts.turn.is_swapped else facts.pixel_aspect
        if size != (frame.height, frame.width):
            raise Refused(f"the frame size changes at frame {number}")
        times.append(None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base))
        yield np.asarray(to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)


def _by_decord(
    source: BinaryIO, first_HWC: npt.NDArray[np.uint8], *, facts: _Facts, decoder: Decoder
) -> Iterator[npt.NDArray[np.uint8]]:
    source.seek(0)
    return decord_frames(source, decoder=decoder, count=facts.packets, first_HWC=first_HWC, turn=facts.turn)


def _avi_times(source: BinaryIO, times: list[float | None], frames: int, time_base: Fraction) -> list[float | None]:
    """An AVI shows a chunk a tick; what FFmpeg makes of that where frames were reordered, or none is told, is not its.

    times: of the frames by FFmpeg, empty where some are shown again.
    """
    if not has_rate(source):
        return [None]
    known = [time for time in times if time is not None]
    if len(known) == frames and all(early < late for early, late in itertools.pairwise(known)):
        return times
    return [float(tick * time_base) for tick in range(frames)]


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
