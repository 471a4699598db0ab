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
    from probe.attentive import AttentiveClassifier, AttentiveRegressor
    from probe.compare import compare
    from probe.evaluate import evaluate
    from probe.linear import GramRidge
    from probe.logistic import BlockLogistic
    from probe.neighbours import CosineNeighboursClassifier, CosineNeighboursRegressor
    from probe.ordinal import OrdinalLogistic
    from probe.report import write_report
    from probe.result import Probed, ProbeResult

_HOME = {
    "AttentiveClassifier": "probe.attentive",
    "AttentiveRegressor": "probe.attentive",
    "BlockLogistic": "probe.logistic",
    "CosineNeighboursClassifier": "probe.neighbours",
    "CosineNeighboursRegressor": "probe.neighbours",
    "GramRidge": "probe.linear",
    "OrdinalLogistic": "probe.ordinal",
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
