"""The privacy audit: is a synthetic set closer to its training patients than new patients are, and could we tell?

`audit(train, holdout, synthetic)` is the Python way, `echofm audit` the command; both are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synth.audit.assess import Audited as Audited
    from synth.audit.assess import audit as audit
    from synth.audit.result import AuditResult as AuditResult

__all__ = ["AuditResult", "Audited", "audit"]
_HOMES = {"audit": "assess", "Audited": "assess", "AuditResult": "result"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
