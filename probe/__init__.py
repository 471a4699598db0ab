"""What does a frozen encoder know? Probes on its embeddings, with patients kept apart and every figure's interval.

    import probe
    probed = probe.evaluate(EmbeddingTable.load("table"), target="ef_percent")
    probed.result.score("mae")        # Estimate(value, low, high)

The names below are imported on first use, so that `import probe` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echofm.estimators.attentive import AttentiveClassifier, AttentiveRegressor
    from echofm.estimators.logistic import BlockLogistic
    from echofm.estimators.neighbours import CosineNeighboursClassifier, CosineNeighboursRegressor
    from echofm.estimators.ordinal import OrdinalLogistic
    from echofm.estimators.ridge import GramRidge
    from probe.compare import compare
    from probe.evaluate import evaluate
    from probe.report import write_report
    from probe.result import Probed, ProbeResult

_HOME = {
    "AttentiveClassifier": "echofm.estimators.attentive",
    "AttentiveRegressor": "echofm.estimators.attentive",
    "BlockLogistic": "echofm.estimators.logistic",
    "CosineNeighboursClassifier": "echofm.estimators.neighbours",
    "CosineNeighboursRegressor": "echofm.estimators.neighbours",
    "GramRidge": "echofm.estimators.ridge",
    "OrdinalLogistic": "echofm.estimators.ordinal",
    "ProbeResult": "probe.result",
    "Probed": "probe.result",
    "compare": "probe.compare",
    "evaluate": "probe.evaluate",
    "write_report": "probe.report",
}

__all__ = [
    "AttentiveClassifier",
    "AttentiveRegressor",
    "BlockLogistic",
    "CosineNeighboursClassifier",
    "CosineNeighboursRegressor",
    "GramRidge",
    "OrdinalLogistic",
    "ProbeResult",
    "Probed",
    "compare",
    "evaluate",
    "write_report",
]


class _Package(ModuleType):
    """`evaluate` and `compare` are functions of this package, although modules of these names hold them."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds a submodule to its package; under these names it must not.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'probe' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


sys.modules[__name__].__class__ = _Package
