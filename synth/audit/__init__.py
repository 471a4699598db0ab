"""The privacy audit: is a synthetic set closer to its training patients than new patients are, and could we tell?

`audit(train, holdout, synthetic)` is the Python way, `echofm audit` the command; both are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm.lazy import on_first_use

if TYPE_CHECKING:
    from synth.audit.assess import Audited as Audited
    from synth.audit.assess import audit as audit
    from synth.audit.result import AuditResult as AuditResult

__all__ = ["AuditResult", "Audited", "audit"]
_LAZY = {"audit": "synth.audit.assess", "Audited": "synth.audit.assess", "AuditResult": "synth.audit.result"}

__getattr__ = on_first_use(__name__, _LAZY)
