"""What each source of a probe is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from echofm.embed.source import is_features
from echofm.errors import EchofmError


def other_sets(sources: Sequence[str], *, data: Path | None, test_on: Sequence[Path]) -> list[Path | None]:
    """What is tested on for each source: its table of the other set, or for encoders the other set itself."""
    if not test_on:
        return [None] * len(sources)
    tables = [is_features(Path(source)) for source in sources]
    if any(tables) and not all(tables):
        raise EchofmError("--test-on: give tables alone, or encoders alone")
    if all(tables):
        if len(test_on) != len(sources):
            raise EchofmError(
                f"--test-on: {len(test_on)} tables of the other set for {len(sources)} of this one; give one for each, "
                "in the same order"
            )
        if missing := [folder for folder in test_on if not is_features(folder)]:
            raise EchofmError(f"--test-on {missing[0]}: no embedding table lies there; `echofm embed` makes one")
        return list(test_on)
    if len(test_on) > 1:
        raise EchofmError("--test-on: encoders are tested on one set; give it once")
    if data is not None and data.resolve() == test_on[0].resolve():
        raise EchofmError(
            "--test-on: that is --data itself, and the test would be leaked to; give a set of other patients"
        )
    return [test_on[0]] * len(sources)
