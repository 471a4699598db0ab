"""The privacy audit: is a synthetic set closer to its training patients than new patients are, and could we tell?

`audit_sets(train, holdout, synthetic, encoder=...)` is the Python way, `audit` the same from tables alone,
`echofm audit` the command; all are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from echofm.lazy import on_first_use

if TYPE_CHECKING:
    from synth.audit.api import audit_sets as audit_sets
    from synth.audit.assess import audit as audit
    from synth.audit.audited import Audited as Audited
    from synth.audit.result import AuditResult as AuditResult
    from synth.audit.settings import AuditSettings as AuditSettings

__all__ = ["AuditResult", "AuditSettings", "Audited", "audit", "audit_sets"]
_LAZY = {
    "audit": "synth.audit.assess",
    "audit_sets": "synth.audit.api",
    "Audited": "synth.audit.audited",
    "AuditResult": "synth.audit.result",
    "AuditSettings": "synth.audit.settings",
}

__getattr__ = on_first_use(__name__, _LAZY)
