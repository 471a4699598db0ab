"""Limits: what a file may cost, checked from its header before a pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from echofm.readers.refused import Refused

# Outside these what is told is a placeholder or in another unit, not a scanner's frame rate.
PLAUSIBLE_RATE_HZ = (1.0, 1000.0)
_MEGABYTE = 1_000_000
# An uncompressed file is as large as its clip in RGB and some tags; one larger than this holds something else.
_FILE_PER_CLIP = 3.75


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on one file.

    max_clip_mb: frames x height x width x channels asked for x bytes per sample once decoded, in 10^6 bytes.
    max_seconds: wall time for reading one file; enforced by `echofm.readers.guarded.ReaderPool`, which reads in
        processes that it can kill (a decoder that hangs cannot be stopped from within its own process).
    """

    max_clip_mb: float = 1024
    max_seconds: float = 120

    def check_clip(self, *, frames: int, height: int, width: int, channels: int, sample_bytes: int = 1) -> None:
        """Refuse an empty or too large clip by what its header claims."""
        if min(frames, height, width, channels) < 1:
            raise Refused(f"its header claims {frames} frames of {height} x {width} pixels: nothing to read")
        size_mb = frames * height * width * channels * sample_bytes / _MEGABYTE
        if size_mb > self.max_clip_mb:
            raise Refused(
                f"its header claims {frames} frames of {height} x {width} x {channels} ({size_mb:,.0f} MB decoded), "
                f"above the limit of {self.max_clip_mb:,.0f} MB (--max-clip-mb)"
            )

    def check_file(self, size_bytes: int) -> None:
        """Refuse an empty file, and one too large to hold a clip within the limit."""
        if size_bytes == 0:
            raise Refused("the file is empty")
        if size_bytes > self.max_file_bytes:
            raise Refused(
                f"the file has {size_bytes / _MEGABYTE:,.0f} MB, more than a clip of {self.max_clip_mb:,.0f} MB "
                "can need (--max-clip-mb)"
            )

    @property
    def max_file_bytes(self) -> int:
        """Largest file that is opened at all; a small clip may come with a megabyte of tags."""
        return int(self.max_clip_mb * _MEGABYTE * _FILE_PER_CLIP) + _MEGABYTE
