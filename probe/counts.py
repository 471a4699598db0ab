"""Numbers of things that must be one at least."""

from __future__ import annotations

from echofm.errors import EchofmError


def require_counts(**counts: int | None) -> None:
    """Raises EchofmError naming the first that is below 1; None is left to its default."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise EchofmError(f"{name} is {count}; give 1 or more")
