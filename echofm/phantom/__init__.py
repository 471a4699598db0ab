"""A beating heart with known answers: `generate` makes folders of clips, `render_clip` one clip in memory."""

from __future__ import annotations

from echofm.phantom.clip import PhantomClip, render_clip, truth_arrays
from echofm.phantom.folder import generate
from echofm.phantom.truth import add_truth

__all__ = ["PhantomClip", "add_truth", "generate", "render_clip", "truth_arrays"]
