"""Re-identification: a small head on a frozen encoder's features that brings one patient's recordings together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm.lazy import on_first_use

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

__getattr__ = on_first_use(__name__, _LAZY)
