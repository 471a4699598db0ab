"""MAFE: motion and appearance features that come apart without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm.lazy import on_first_use

if TYPE_CHECKING:
    from synth.mafe.published.load import load_published

__all__ = ["load_published"]

# `echofm synth --help` needs no torch.
_LAZY = {"load_published": "synth.mafe.published.load"}

__getattr__ = on_first_use(__name__, _LAZY)
