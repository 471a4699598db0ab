"""Readers: files in, de-identified clips out."""

from echofm.readers.limits import Limits
from echofm.readers.read import read_clip, read_row

__all__ = ["Limits", "read_clip", "read_row"]
