"""What does a frozen encoder know? Probes on its embeddings, with patients kept apart and every figure's interval.

    import probe
    probed = probe.evaluate(EmbeddingTable.load("table"), target="ef_percent")
    probed.result.score("mae")        # Estimate(value, low, high)

The names below are imported on first use, so that `import probe` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probe.comparison import compare
    from probe.labels.evaluate import evaluate
    from probe.report import write_report
    from probe.result import Probed, ProbeResult

__all__ = ["ProbeResult", "Probed", "compare", "evaluate", "write_report"]

_HOME = {
    "ProbeResult": "probe.result",
    "Probed": "probe.result",
    "compare": "probe.comparison",
    "evaluate": "probe.labels.evaluate",
    "write_report": "probe.report",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'probe' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
