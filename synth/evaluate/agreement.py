"""How far numbers or classes that were read agree with those that were asked for or are true, with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from echofm.intervals import Estimate, patient_bootstrap

_DRAWS = 500
_ORDERS = 200


def agreement(
    true_N: npt.NDArray, read_N: npt.NDArray, patients: npt.NDArray[np.str_], *, seed: int = 0
) -> dict[str, Estimate]:
    """By name. Of numbers: correlation, R2, mae (in the label's unit) and slope of what was read on what is true; of
    classes: balanced_accuracy. Intervals over patients; the first named decides."""
    return {name: _bootstrap(true_N, read_N, patients, seed, each) for name, each in _figures(true_N).items()}


def chance(true_N: npt.NDArray, read_N: npt.NDArray, *, seed: int = 0) -> dict[str, Estimate]:
    """The same figures with what is true in other orders: their mean, and where 95 % of them lie."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(true_N)) for _ in range(_ORDERS)]
    found = {name: [each(true_N[order], read_N) for order in orders] for name, each in _figures(true_N).items()}
    return {
        name: Estimate(
            value=float(np.mean(each)), low=float(np.quantile(each, 0.025)), high=float(np.quantile(each, 0.975))
        )
        for name, each in found.items()
    }


def _figures(true_N: npt.NDArray) -> dict[str, Callable[..., float]]:
    if true_N.dtype.kind != "f":
        return {"balanced_accuracy": _balanced}
    return {"correlation": _correlation, "R2": _r2, "mae": _mae, "slope": _slope}


def _bootstrap(
    true_N: npt.NDArray, read_N: npt.NDArray, patients: npt.NDArray, seed: int, figure: Callable[..., float]
) -> Estimate:
    index = np.arange(len(true_N)).astype(float)

    def of(rows: npt.NDArray) -> float:
        chosen = rows.astype(int)
        return figure(true_N[chosen], read_N[chosen])

    return patient_bootstrap(of, {"rows": (index, patients)}, draws=_DRAWS, seed=seed)


def _correlation(true: npt.NDArray, read: npt.NDArray) -> float:
    if np.ptp(true) == 0:
        return float("nan")
    # What is read alike of all clips follows nothing.
    return float(np.corrcoef(true, read)[0, 1]) if np.ptp(read) > 0 else 0.0


def _r2(true: npt.NDArray, read: npt.NDArray) -> float:
    spread = np.square(true - true.mean()).sum()
    return float(1 - np.square(true - read).sum() / spread) if spread > 0 else float("nan")


def _mae(true: npt.NDArray, read: npt.NDArray) -> float:
    return float(np.abs(true - read).mean())


def _slope(true: npt.NDArray, read: npt.NDArray) -> float:
    about = true - true.mean()
    return float(about @ read / (about @ about)) if np.ptp(true) > 0 else float("nan")


def _balanced(true: npt.NDArray, read: npt.NDArray) -> float:
    return float(np.mean([(read[true == each] == each).mean() for each in np.unique(true)]))
