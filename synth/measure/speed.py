"""One step against many: what it costs and what it loses."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, patient_bootstrap
from echofm.metric.kernel_distance import kernel_distances

Floats = npt.NDArray[np.float64]


def times_faster(few: Callable[[int], object], many: Callable[[int], object], *, rounds: int = 8) -> Estimate:
    """How many times less processor time `few` takes than `many`, which are called in turn with the round's number.

    An untimed round comes first. Interval: rounds redrawn.
    """
    spent_R2 = np.array([[_spent_s(few, number), _spent_s(many, number)] for number in range(rounds + 1)])[1:]
    rows = {"spent": (spent_R2, np.arange(rounds).astype(str))}
    return patient_bootstrap(lambda spent: float(spent[:, 1].sum() / spent[:, 0].sum()), rows)


def fidelity(held_out_ND: Floats, train_MD: Floats, **sets: Floats) -> dict[str, Estimate]:
    """Kernel distance of each set to held-out patients, beside the real training patients' ("floor"), in features that
    are standardised by the held-out ones; and by how much each is further than the floor (", above the floor")."""
    mean_D, std_D = held_out_ND.mean(0), held_out_ND.std(0) + 1e-6
    rows = [(each - mean_D) / std_D for each in (held_out_ND, train_MD, *sets.values())]
    found = kernel_distances(rows[0], [(each, None) for each in rows[1:]])
    names = ["floor", *sets, *(f"{name}, above the floor" for name in sets)]
    return dict(zip(names, found, strict=True))


def _spent_s(work: Callable[[int], object], number: int) -> float:
    begun_s = time.process_time()
    work(number)
    return time.process_time() - begun_s
