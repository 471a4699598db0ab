"""Re-identification: a small head on a frozen encoder's features that brings one patient's recordings together."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synth.audit.reid.build import fit_reid
    from synth.audit.reid.folder import load_reid
    from synth.audit.reid.model import Reid, require_separate

__all__ = ["Reid", "fit_reid", "load_reid", "require_separate"]

# `echofm audit --help` needs no torch.
_LAZY = {
    "Reid": "synth.audit.reid.model",
    "fit_reid": "synth.audit.reid.build",
    "load_reid": "synth.audit.reid.folder",
    "require_separate": "synth.audit.reid.model",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'synth.audit.reid' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
