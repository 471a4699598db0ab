"""What a synthetic set is worth: fidelity, diversity, control, utility and privacy on one card (docs/evaluation.md)."""

from __future__ import annotations

from echofm.lazy import on_first_use

__all__ = ["Card", "evaluate_sets"]
__getattr__ = on_first_use(__name__, {"Card": "synth.evaluate.card", "evaluate_sets": "synth.evaluate.api"})
