"""Numbers that a command takes: of things that must be one at least, and of draws."""

from __future__ import annotations

from echofm.errors import EchofmError


def require_counts(**counts: int | None) -> None:
    """Raises EchofmError naming the first that is below 1; None is left to its default."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise EchofmError(f"{name} is {count}; give 1 or more")


def require_seed(seed: int) -> None:
    """Raises EchofmError where random numbers cannot begin there."""
    if seed < 0:
        raise EchofmError(f"the seed is {seed}; give 0 or more")
