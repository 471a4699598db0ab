"""A beating heart with known answers: `generate` makes folders of clips, `render_clip` one clip in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from echofm.lazy import on_first_use

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

__getattr__ = on_first_use(__name__, _LAZY)
