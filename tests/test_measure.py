"""Requested against shown ejection fractions: what follows its request, and what does not, beside other orders."""

from __future__ import annotations

import numpy as np

from synth.measure.ejection import agreement, chance


def test_answers_that_follow_requests_lie_above_other_orders() -> None:
    rng = np.random.default_rng(3)
    asked = rng.uniform(20, 75, 64)
    for found, follows in ((0.5 * asked + 20 + rng.normal(0, 3, 64), True), (rng.uniform(20, 75, 64), False)):
        own, others = agreement(asked, found)["correlation"], chance(asked, found)["correlation"]
        assert (own.low > others.high) == follows
        assert abs(others.value) < 0.05 and others.low < -0.15 and others.high > 0.15
