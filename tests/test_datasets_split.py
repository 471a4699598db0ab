"""Splits by a hash of the patient: stable, patient-disjoint by construction, shares as asked."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofm.errors import EchofmError
from echofm.split import SPLITS, split_of


def test_shares_hold_in_expectation() -> None:
    counts = Counter(split_of(f"{index:020x}", seed=3, fractions=(0.7, 0.1, 0.2)) for index in range(20_000))
    # Three standard deviations of a binomial at 20,000 draws are below 0.01.
    assert [counts[name] / 20_000 for name in SPLITS] == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_a_patients_split_is_fixed_for_ever() -> None:
    # Written down once: another answer would move patients of shards that exist.
    assert [split_of(name) for name in ("a" * 20, "b" * 20, "c" * 20, "f" * 20)] == ["train", "test", "train", "val"]
    assert len({tuple(split_of(f"{i:020x}", seed=seed) for i in range(50)) for seed in range(5)}) == 5


@given(st.text(), st.integers())
def test_a_split_of_share_zero_is_never_drawn(name: str, seed: int) -> None:
    assert split_of(name, seed=seed, fractions=(0.9, 0.1, 0.0)) != "test"
    assert split_of(name, seed=seed, fractions=(0.0, 1.0, 0.0)) == "val"
    assert split_of(name, seed=seed, fractions=(0.0, 0.0, 1.0)) == "test"


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), ()])
def test_wrong_fractions_are_named(fractions: tuple[float, ...]) -> None:
    with pytest.raises(EchofmError, match="sum to 1"):
        split_of("a", fractions=fractions)
