"""Which way a metric is better."""

from __future__ import annotations

from probe.metrics import LOWER_IS_BETTER

# Metrics of other tasks say so in their names: phase_error_percent, ed_error_ms, hausdorff95_mm.
_ERRORS = ("error", "hausdorff", "hd95", "brier", "loss")


def lower_is_better(metric: str) -> bool:
    """Whether the smaller of two values of this metric is the better one."""
    return metric in LOWER_IS_BETTER or any(word in metric for word in _ERRORS)
