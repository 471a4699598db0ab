"""Tables of two sets, one to fit and choose on, another hospital's to test on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from echofm.embed.source import is_features, load_features
from echofm.embed.table import EmbeddingTable
from echofm.errors import EchofmError


def require_paired(sources: Sequence[str], test_on: Sequence[Path]) -> None:
    """Raises EchofmError where tables of the other set are missing."""
    if len(test_on) != len(sources):
        raise EchofmError(
            f"--test-on: {len(test_on)} tables of the other set for {len(sources)} of this one; give one for each, in "
            "the same order"
        )
    for folder in test_on:
        if not is_features(folder):
            raise EchofmError(f"--test-on {folder}: no embedding table lies there; `echofm embed` makes one")


def table_of(folder: str, other: Path | None) -> EmbeddingTable:
    """An encoder's table, with the clips of its table of the other set where there is one."""
    return joined([load_features(each) for each in (folder, other) if each is not None])


def clips_of(other: Path | None) -> frozenset[str] | None:
    """Ids of the clips to test on."""
    return None if other is None else frozenset(load_features(other).clip_id)


def joined(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """One table of one or two sets; one alone stays mapped from disk. Raises EchofmError where a clip is in both."""
    if len(tables) == 1:
        return tables[0]
    if shared := sorted(set(tables[0].clip_id) & set(tables[1].clip_id)):
        raise EchofmError(
            f"{len(shared)} clips are in both sets, first {shared[0]} (hashed): the test would be leaked to; --test-on "
            "takes a set of other patients"
        )
    return EmbeddingTable.concat(tables)
