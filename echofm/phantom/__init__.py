"""A beating heart with known answers: `generate` makes folders of clips, `render_clip` one clip in memory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from echofm.phantom.clip import PhantomClip, render_clip, truth_arrays
    from echofm.phantom.folder import generate
    from echofm.phantom.truth import add_truth

__all__ = ["LayoutName", "PhantomClip", "add_truth", "generate", "render_clip", "truth_arrays"]

LayoutName = Literal["echonet-dynamic", "echonet-pediatric", "camus", "dicom"]

_LAZY = {
    "PhantomClip": "echofm.phantom.clip",
    "add_truth": "echofm.phantom.truth",
    "generate": "echofm.phantom.folder",
    "render_clip": "echofm.phantom.clip",
    "truth_arrays": "echofm.phantom.clip",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'echofm.phantom' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
