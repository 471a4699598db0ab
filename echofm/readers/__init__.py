"""Readers: files in, de-identified clips out."""

from echofm.readers.limits import Limits
from echofm.readers.options import ReadOptions
from echofm.readers.read import read_clip, read_clips, read_row

__all__ = ["Limits", "ReadOptions", "read_clip", "read_clips", "read_row"]
